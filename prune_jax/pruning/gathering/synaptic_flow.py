"""Synaptic flow: how much each weight carries of what ones as input bring to the outputs.

Source: Tanaka et al., NeurIPS 2020, arXiv 2006.05467, Sec. 5.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from prune_jax.pruning.gathering.float_leaves import float_leaves, is_float, like_params, of_floats


def flow_slopes(flow: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of params: dR/dw / R at their absolute values, R the sum of the network's outputs on ones.

    All float leaves are taken at their absolute value, batch statistics too, as in the authors' code. They work with
    dR/dw. Here it is over R, which changes no rank. R grows by a factor with every layer, so it is computed in
    float64 where the function can be, and only the quotient comes back to float32.

    Args:
      flow: ``flow(params)`` -> outputs of the network on ones, arrays in any pytree. It is compiled once for all
        params of equal shapes.

    Returns:
      ``slopes(params)`` -> a pytree like ``params`` of float32 arrays, none negative. Where R is 0, no path from
      input to output is left, and all is 0. It raises ValueError where R isn't finite.

    Example:
      >>> slopes = flow_slopes(lambda p: jnp.ones((1, 2)) @ p["w"])
      >>> slopes({"w": jnp.array([[1.0], [-3.0]])})["w"].ravel().tolist()
      [0.25, 0.25]
    """

    @jax.jit
    def both(params: Any, floats: list[Any]) -> tuple[Any, list[Any]]:
        def total(at: list[Any]) -> Any:
            outputs = jax.tree.leaves(of_floats(flow, params)(at))
            return sum(out.sum() for out in outputs if is_float(out))

        return jax.value_and_grad(total)(floats)

    @functools.cache  # a memo: a function that was traced in float32 before, as a cut network's, stays in it
    def runs_wide(leaves: tuple[Any, ...], treedef: Any) -> bool:
        params = jax.tree.unflatten(treedef, leaves)
        wide = [jax.ShapeDtypeStruct(leaf.shape, jnp.float64) for leaf in leaves if is_float(leaf)]
        try:
            jax.eval_shape(both, params, wide)
        except TypeError:
            return False
        return True

    def slopes(params: Any) -> Any:
        leaves, treedef = jax.tree.flatten(params)
        shapes = tuple(jax.ShapeDtypeStruct(jnp.shape(leaf), leaf.dtype) for leaf in leaves)
        with jax.enable_x64(True):
            wide = runs_wide(shapes, treedef)
        with jax.enable_x64(wide):
            dtype = jnp.float64 if wide else jnp.float32
            total, found = both(params, _sizes(float_leaves(params), dtype))
            if not jnp.isfinite(total):
                raise ValueError(
                    "the sum of the network's outputs on ones isn't finite, so 'synflow' can't rank its weights; take "
                    "another criterion, such as 'l1'"
                )
            return like_params(params, _shares(found, total))

    return slopes


@functools.partial(jax.jit, static_argnums=1)
def _sizes(leaves: list[Any], dtype: Any) -> list[Any]:
    return [jnp.abs(leaf).astype(dtype) for leaf in leaves]


@jax.jit
def _shares(slopes: list[Any], total: Any) -> list[Any]:
    return [(slope / jnp.where(total > 0, total, 1)).astype(jnp.float32) for slope in slopes]
