"""What a model is made of again after a cut, and the proof that it is the small network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.module.static_inputs import Bind

# Of float32 sums in another order, through a deep network. A mixed-up channel differs by far more.
RELATIVE = {"float64": 1e-8, "float32": 1e-3}
ROUGH = 5e-2  # bfloat16 and its like
# XLA's effort is spent on code that runs once.
CHEAP: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


class Remade(NamedTuple):
    """A small model: the object or None, its apply function, and why it is a wrapper (None: it isn't)."""

    model: Any
    apply: Callable[..., Any]
    wrapped: str | None


class Cut(NamedTuple):
    """A decision on a network, carried out on its variables.

    Attributes:
      groups: the dense network's groups.
      keep: the decision.
      dense: the dense variables' shapes.
      small: the small variables.
      inputs: the inputs, arrays or shapes.
      twin: ``twin(small variables, *inputs)``, the definition of the small network.
      bind: what binds the inputs that aren't arrays to a function of variables and all inputs.
      wanted: the twin's outputs as shapes.
      moves: (size before, size after) of every axis that the twin's arrays lose something on.
      network: the dense network (``pruned.Dense``).
    """

    groups: Sequence[Group]
    keep: Mapping[str, Any]
    dense: Any
    small: Any
    inputs: tuple[Any, ...]
    twin: Callable[..., Any]
    bind: Bind
    wanted: Any
    moves: frozenset[tuple[int, int]]
    network: Any

    def differs(self, own: Callable[..., Any]) -> str | None:
        """Why ``own(small variables, *inputs)`` isn't the small network, or None where it gives the twin's values.

        Both run on random numbers near the variables' own: a zero would hide which channel is read.
        """
        variables, inputs = near(self.small, 0), near(self.inputs, 1)
        try:
            found = jax.eval_shape(own, variables, *inputs)
        except Exception as error:  # whatever the network's own code raises at sizes that it doesn't expect
            return f"its code doesn't run at the small sizes: {first_line(error)}"
        if jax.tree.map(_spec, self.wanted) != jax.tree.map(_spec, found):
            return "its code gives outputs of another shape at the small sizes"
        ours, theirs = _run(lambda v, xs: (self.twin(v, *xs), own(v, *xs)), variables, inputs)
        if not all(map(_close, jax.tree.leaves(theirs), jax.tree.leaves(ours))):
            return (
                "its code computes something else at the small sizes, such as with a fixed size or position"
            )
        return None


def near(tree: Any, seed: int) -> Any:
    """Floats a little above the given ones, or random ones for shapes alone. Everything else stays as it is."""
    rng = np.random.default_rng(seed)

    def one(leaf: Any) -> Any:
        abstract = isinstance(leaf, jax.ShapeDtypeStruct)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return _nothing(leaf) if abstract else leaf
        noise = rng.uniform(0.0, 0.2, leaf.shape)
        base = np.zeros(leaf.shape) if abstract else np.asarray(leaf, np.float64)
        return jax.device_put((base + noise).astype(leaf.dtype))

    return jax.tree.map(one, tree)


def _nothing(leaf: jax.ShapeDtypeStruct) -> Any:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0), leaf.shape)
    return jnp.zeros(leaf.shape, leaf.dtype)


def _run(function: Callable[..., Any], *arguments: Any) -> Any:
    lowered = jax.jit(function).lower(*arguments)
    options = CHEAP if jax.default_backend() == "cpu" else None
    return lowered.compile(options)(*arguments)


def _spec(leaf: Any) -> tuple[Any, Any]:
    return leaf.shape, leaf.dtype


def _close(found: Any, wanted: Any) -> bool:
    if jnp.issubdtype(wanted.dtype, jax.dtypes.prng_key):
        return True
    a, b = (np.asarray(jnp.asarray(x).astype(jnp.float32)) for x in (found, wanted))
    scale = np.abs(b[np.isfinite(b)]).max(initial=0.0)
    tolerance = RELATIVE.get(str(wanted.dtype), ROUGH if jnp.issubdtype(wanted.dtype, jnp.floating) else 0.0)
    return bool(np.allclose(a, b, rtol=tolerance, atol=tolerance * float(scale), equal_nan=True))


def first_line(error: Exception) -> str:
    """What an error says first, of at most 200 letters, or its type where it says nothing."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text if len(text) < 200 else text[:200] + "..."
