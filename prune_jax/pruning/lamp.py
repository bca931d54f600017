"""Each number's part of the sum of those that are left when all smaller ones are gone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def lamp_fractions(scores: Any) -> Any:
    """s_u / (sum over v >= u of s_v), u and v in ascending order of the scores. Of equal ones the earlier is less.

    Args:
      scores: an array of any shape, none below 0. Of squared weights the result is LAMP.

    Returns:
      Fractions in [0, 1], in the shape and dtype of the scores, float32 or wider. The largest has 1. 0 where all scores
      are 0. NumPy, computed in float64, unless the scores are traced.

    Source: Lee et al., ICLR 2021, arXiv 2010.07611, Eq. (3).

    Example:
      >>> lamp_fractions(np.array([4.0, 1.0, 3.0]))
      array([1.        , 0.125     , 0.42857143])
    """
    if isinstance(scores, jax.core.Tracer):
        return _traced(scores)
    flat = scores.reshape(-1)
    order, ascending = _ascending(flat)
    left = np.cumsum(ascending[::-1])[::-1]
    np.maximum(left, np.finfo(np.float64).tiny, out=left)
    out = np.empty(flat.shape, np.promote_types(flat.dtype, np.float32))
    out[order] = np.divide(ascending, left, out=left)
    return out.reshape(scores.shape)


def _traced(scores: jax.Array) -> jax.Array:
    flat = scores.reshape(-1)
    order = jnp.argsort(flat, stable=True)
    ascending = flat.astype(jnp.promote_types(flat.dtype, jnp.float32))[order]
    left = jnp.maximum(jnp.cumsum(ascending[::-1])[::-1], jnp.finfo(ascending.dtype).tiny)
    return jnp.zeros_like(ascending).at[order].set(ascending / left).reshape(scores.shape)


def _ascending(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A stable ascending order, and the numbers in it, in float64.

    The bits of floats that aren't below 0 grow with them. So a float32 and its place make one whole number, and sorting
    those is several times faster than ``argsort``.
    """
    if flat.dtype != np.float32:
        order = np.argsort(flat, stable=True)
        return order, flat[order].astype(np.float64)
    keys = (flat + np.float32(0)).view(np.uint32).astype(np.uint64)  # -0 becomes 0
    keys <<= np.uint64(32)
    keys |= np.arange(flat.size, dtype=np.uint64)
    keys.sort()
    ascending = (keys >> np.uint64(32)).astype(np.uint32).view(np.float32).astype(np.float64)
    keys &= np.uint64(0xFFFFFFFF)
    return keys.view(np.int64), ascending
