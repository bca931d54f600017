"""Refusal of weights that no measurement can be taken of."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

_SMALL = 2**16
_NUMBERS = (jax.Array, np.ndarray, np.number)


def check_weights(params: Any) -> None:
    """ValueError naming the first leaf that is not floating or holds NaN or infinity, and for no leaf."""
    named = _named(params)
    if not named:
        raise ValueError("params hold no arrays; give the network's weights")
    for name, leaf in named:
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"leaf {name!r} has dtype {dtype}; derivatives need floating weights: leave it out"
            )
    check_finite(params)


def check_finite(tree: Any) -> None:
    """ValueError naming the first leaf (weights, statistics) with NaN or infinity; tracers are passed over."""
    for name, leaf in _named(tree):
        broken = known_broken(leaf)
        if broken:
            raise ValueError(
                f"leaf {name!r} holds NaN or infinity in {broken} of {jnp.size(leaf)} values: this network has diverged"
            )


def check_network(apply: Callable[..., Any]) -> None:
    """``check_finite`` of all that a ``jax.tree_util.Partial`` binds; what a plain function closes over is hidden."""
    if isinstance(apply, Partial):
        for bound in (*apply.args, *apply.keywords.values()):
            check_finite(bound)


def check_measured(values: Any, apply: Callable[..., Any], what: str) -> None:
    """ValueError where ``values`` ``(batch, ...)``, measured of ``apply``, aren't finite; tracers are passed over.

    Names the first broken leaf where it can be seen, else the first example. ``what`` is what was measured.
    """
    if not known_broken(values):
        return
    check_network(apply)
    broken = broken_examples(values)
    raise ValueError(
        f"the {what} of {len(broken)} of {len(values)} examples is not finite, first that of example "
        f"{broken[0]}: check the weights with check_finite(params), and the images"
    )


def broken_examples(values: Any) -> np.ndarray:
    """The numbers of the examples whose ``values`` ``(batch, ...)`` hold NaN or infinity, ascending."""
    return np.flatnonzero(~np.isfinite(np.asarray(values)).reshape(len(values), -1).all(1))


def known_broken(array: Any) -> int:
    """How many values are NaN or infinity; 0 where that can't be known, for a tracer, and for what is no number."""
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


def _named(tree: Any) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/") or "params", leaf) for path, leaf in leaves
    ]
