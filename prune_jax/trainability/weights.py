"""Refusal of weights that no measurement can be taken of."""

from typing import Any

import jax
import jax.numpy as jnp


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
    check_known_finite(params)


def check_known_finite(tree: Any) -> None:
    """ValueError naming the first leaf that holds NaN or infinity; under jit, tracers are passed over."""
    for name, leaf in _named(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) and known_broken(leaf):
            raise ValueError(f"leaf {name!r} holds NaN or infinity: this network has diverged")


def known_broken(array: Any) -> bool:
    """Whether an array holds NaN or infinity; False where that can't be known, for a tracer."""
    if isinstance(array, jax.core.Tracer):
        return False
    with jax.ensure_compile_time_eval():  # a constant inside someone's jit is still a constant
        return not bool(jnp.isfinite(array).all())


def at_least_float32(array: jax.Array) -> jax.Array:
    """The array in float32, or in its own type where that is wider."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _named(tree: Any) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/") or "params", leaf) for path, leaf in leaves
    ]
