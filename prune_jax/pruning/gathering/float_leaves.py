"""A loss as a function of the float leaves of its params: what can be differentiated."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def is_float(leaf: Any) -> bool:
    """Whether a leaf can have a gradient."""
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def float_leaves(params: Any) -> list[Any]:
    """The float leaves of a pytree, in its order."""
    return [jnp.asarray(leaf) for leaf in jax.tree.leaves(params) if is_float(leaf)]


def of_floats(function: Callable, params: Any) -> Callable[..., Any]:
    """``function(params, *rest)`` as a function ``(floats, *rest)`` of the float leaves alone."""
    leaves, treedef = jax.tree.flatten(params)

    def inner(floats: list[Any], *rest: Any) -> Any:
        numbers = iter(floats)
        tree = jax.tree.unflatten(treedef, [next(numbers) if is_float(leaf) else leaf for leaf in leaves])
        return function(tree, *rest)

    return inner


def like_params(params: Any, floats: list[Any]) -> Any:
    """The numbers of the float leaves in a pytree like ``params``. Zeros at other leaves."""
    leaves, treedef = jax.tree.flatten(params)
    numbers = iter(floats)
    return jax.tree.unflatten(
        treedef, [next(numbers) if is_float(leaf) else jnp.zeros(jnp.shape(leaf)) for leaf in leaves]
    )


def scaled(factor: Any, leaves: list[Any]) -> list[Any]:
    """Leaves times a number, in float32 or wider, so that sums over many batches stay exact enough."""
    return [factor * leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in leaves]
