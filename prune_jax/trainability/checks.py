"""What is refused before a Jacobian is measured."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from prune_jax.trainability.singular_values import coarsest

# Share of the largest output by which one example's may differ, alone and in a batch, for rounding alone: programs of
# two shapes add in another order. A network in a coarse format may by some of its epsilons.
_MOVES = 1e-3
_ROUNDINGS = 16
_SMALL = 2**16
_NUMBERS = (jax.Array, np.ndarray, np.number)


def check_images(x: Any) -> None:
    """ValueError unless ``x`` is a batch of at least one example of floating values."""
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise ValueError(f"x is a {type(x).__name__}; it needs an array (batch, ...) of floating values")
    if len(x.shape) < 2 or x.shape[0] == 0:
        raise ValueError(
            f"x has shape {x.shape}; it needs at least one example along axis 0 and one more axis"
        )
    if 0 in x.shape:
        raise ValueError(f"x has shape {x.shape}; an example without values has no Jacobian")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"x has dtype {x.dtype}; a Jacobian needs floating inputs: normalise the images first"
        )


def check_independent(apply: Callable[..., Any], x: Any, *bound: Any) -> None:
    """ValueError where an example's outputs, ``apply(*bound, x)``, differ alone and in a batch of two.

    The first example goes through alone, and beside an altered second one: one program, three examples. What scales
    with the batch is seen so, and what mixes examples. Passed over are traced arrays, batches of one, and functions
    that take no such batches (parts of a network that hold the values of one batch).
    """
    examples = (*getattr(x, "shape", ()), 0)[0]
    traced = isinstance(x, jax.core.Tracer) or isinstance(jnp.zeros(()), jax.core.Tracer)
    if traced or examples < 2 or not getattr(x, "is_fully_addressable", True):
        return
    # NumPy sees an array of the CPU without a copy, which is faster than slicing it there
    on_host = not isinstance(x, jax.Array) or next(iter(x.devices())).platform == "cpu"
    first, second = np.asarray(x)[:2] if on_host else np.asarray(x[:2])
    other = (0.5 * second + 0.25).astype(second.dtype)  # not the first one, where the two are equal
    pair = np.stack([first, other])
    forward = (
        partial(_both, apply) if isinstance(apply, Partial) else jax.jit(partial(_alone_and_beside, apply))
    )
    try:
        found = forward(*bound, pair)
    except Exception:  # whatever it is, the measurement itself raises it of the batch that it is given
        return
    shapes = [getattr(out, "shape", ())[:1] for out in found]
    if any(isinstance(out, jax.core.Tracer) for out in found) or shapes != [(1,), (2,)]:
        return  # a trace hides the numbers. What is no array of examples is refused by name elsewhere
    alone, beside = (np.nan_to_num(np.asarray(out, np.float64)) for out in found)
    largest = max(np.abs(alone).max(initial=0.0), np.abs(beside).max(initial=0.0))
    moved = np.abs(alone[0] - beside[0]).max(initial=0.0)
    if moved <= _MOVES * largest:
        return
    rounding = float(jnp.finfo(computed_in(lambda v: apply(*bound, v), pair)).eps)
    if moved > _ROUNDINGS * rounding * largest:
        raise ValueError(
            "outputs of the first example change with the second one or with the size of the batch, so no Jacobian "
            "of one example describes them: put the network into evaluation mode (in training mode batch norm ties "
            "examples together), or give check=False to measure it all the same"
        )


def _alone_and_beside(apply: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
    *bound, pair = arguments
    with jax.default_matmul_precision("highest"):
        return apply(*bound, pair[:1]), apply(*bound, pair)


_both = jax.jit(_alone_and_beside)


def computed_in(function: Callable[[Any], Any], argument: Any) -> np.dtype:
    """The coarsest format that a function computes in, seen from what its backward pass keeps."""
    kept = jax.eval_shape(lambda a: jax.vjp(function, a), argument)
    return coarsest(jax.tree.leaves((argument, kept)))


def check_logits(logits: Any, batch: int) -> None:
    """ValueError unless ``apply`` gave floating ``(batch, K)``, K > 0."""
    shape = getattr(logits, "shape", None)
    if shape is None:
        raise ValueError(
            f"apply returned a {type(logits).__name__}; derivatives need one array (batch, outputs): pick it "
            "inside apply"
        )
    if len(shape) != 2:
        raise ValueError(
            f"apply returned shape {shape}; derivatives need (batch, outputs): reduce the other axes inside "
            "apply, as y.mean((1, 2)) or y.reshape(len(y), -1)"
        )
    if shape[0] != batch or not shape[1]:
        raise ValueError(f"apply returned shape {shape} for {batch} examples; it needs ({batch}, outputs)")
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"apply returned dtype {logits.dtype}; a Jacobian needs floating outputs")


def chosen_outputs(outputs: Sequence[int] | None, count: int) -> np.ndarray:
    """Indices of the outputs wanted, default all ``count``. ValueError for wrong or repeated ones."""
    if outputs is None:
        return np.arange(count)
    chosen = np.asarray(outputs)
    if chosen.ndim != 1 or not chosen.size or not np.issubdtype(chosen.dtype, np.integer):
        raise ValueError(f"outputs is {outputs!r}; it needs a non-empty list of output indices")
    wrong = chosen[(chosen < 0) | (chosen >= count)]
    if wrong.size:
        raise ValueError(f"output {wrong[0]} is not among the {count} outputs 0 to {count - 1} of apply")
    if len(set(chosen.tolist())) < chosen.size:
        raise ValueError(f"outputs {outputs!r} names an output twice")
    return chosen


def check_share(name: str, value: float | None) -> None:
    """ValueError where a share of the largest singular value is out of range. None is one that is left out."""
    if value is not None and not 0 <= value < 1:
        raise ValueError(f"{name} is a share of the largest singular value, in [0, 1), got {value}")


def check_whole(name: str, value: Any, of: str = "") -> int:
    """``value`` as an int. ValueError naming the argument where it is no whole number."""
    try:
        whole = int(value)
        if not isinstance(value, bool) and whole == value:
            return whole
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{name} {value!r} is not a whole number{of}")


def check_weights(params: Any) -> None:
    """ValueError naming the first leaf that is not floating or holds NaN or infinity, and for no leaf."""
    if not (leaves := named(params)):
        raise ValueError("params hold no arrays; give the network's weights")
    for name, leaf in leaves:
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"leaf {name!r} has dtype {dtype}; derivatives need floating weights: leave it out"
            )
    check_finite(params)


def check_finite(tree: Any) -> None:
    """Refuses weights or statistics that hold NaN or infinity: the network has diverged.

    Args:
        tree: any pytree. Traced leaves are passed over.

    Raises:
        ValueError: naming the first such leaf, and how many of its values.

    Example:
        >>> check_finite({"kernel": jnp.ones(3)})
        >>> check_finite({"kernel": jnp.array([1.0, jnp.nan])})
        Traceback (most recent call last):
        ValueError: leaf 'kernel' holds NaN or infinity in 1 of 2 values: this network has diverged
    """
    for name, leaf in named(tree):
        if broken := known_broken(leaf):
            raise ValueError(
                f"leaf {name!r} holds NaN or infinity in {broken} of {jnp.size(leaf)} values: this network has diverged"
            )


def check_network(apply: Callable[..., Any]) -> None:
    """``check_finite`` of all that a ``jax.tree_util.Partial`` binds. What a plain function closes over is hidden."""
    for bound in (*apply.args, *apply.keywords.values()) if isinstance(apply, Partial) else ():
        check_finite(bound)


def check_measured(values: Any, apply: Any, what: str, numbers: Any = None) -> None:
    """ValueError where ``values`` ``(batch, ...)``, measured of ``apply``, aren't finite. Tracers are passed over.

    Names the first broken leaf where it can be seen, else the first example. ``what`` is what was measured, of the
    examples ``numbers`` (default: 0, 1, ...).
    """
    if not known_broken(values):
        return
    check_network(apply)
    numbers = np.arange(len(values)) if numbers is None else np.asarray(numbers)
    broken = np.unique(numbers[broken_examples(values)])
    raise ValueError(
        f"the {what} of {len(broken)} of {len(np.unique(numbers))} examples is not finite, first that of example "
        f"{broken[0]}: check the weights with check_finite(params), and the images"
    )


def broken_examples(values: Any) -> np.ndarray:
    """The numbers of the examples whose ``values`` ``(batch, ...)`` hold NaN or infinity, ascending."""
    return np.flatnonzero(~np.isfinite(np.asarray(values)).reshape(len(values), -1).all(1))


def known_broken(array: Any) -> int:
    """How many values are NaN or infinity. 0 where that can't be known, for a tracer, and for what is no number."""
    if isinstance(array, jax.core.Tracer) or not isinstance(array, (*_NUMBERS, float)):
        return 0
    if not jnp.issubdtype(jnp.result_type(array), jnp.inexact):
        return 0
    if not isinstance(array, jax.Array) or (array.is_fully_addressable and array.size <= _SMALL):
        # a look on the host costs less than three small programs
        return int((~np.isfinite(np.asarray(array))).sum())
    with jax.ensure_compile_time_eval():  # a constant inside someone's jit is still a constant
        return int((~jnp.isfinite(array)).sum())


def at_least_float32(array: jax.Array) -> jax.Array:
    """The array in float32, or in its own type where that is wider."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def named(tree: Any) -> list[tuple[str, Any]]:
    """The leaves of a tree with their paths, such as ``layers/0/kernel``."""
    at = partial(jax.tree_util.keystr, simple=True, separator="/")
    return [(at(path) or "params", leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
