"""Each number's part of the sum of those that are left when all smaller ones are gone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def lamp_fractions(scores: Any) -> Any:
    """s_u / (sum over v >= u of s_v), u and v in ascending order of the scores; of equal ones the earlier is less.

    Args:
      scores: an array of any shape, none below 0. Of squared weights the result is LAMP.

    Returns:
      Fractions in [0, 1], in the shape of the scores; the largest has 1. 0 where all scores are 0. NumPy, computed in
      float64, unless the scores are traced.

    Source: Lee et al., ICLR 2021, arXiv 2010.07611, Eq. (3).

    Example:
      >>> lamp_fractions(np.array([4.0, 1.0, 3.0]))
      array([1.        , 0.125     , 0.42857143])
    """
    lib: Any = jnp if isinstance(scores, jax.core.Tracer) else np
    flat = scores.reshape(-1)
    order = _ascending(flat) if lib is np else jnp.argsort(flat, stable=True)
    flat = flat.astype(np.float64 if lib is np else jnp.promote_types(flat.dtype, jnp.float32))
    ascending = flat[order]
    left = lib.maximum(lib.cumsum(ascending[::-1])[::-1], lib.finfo(flat.dtype).tiny)
    fractions = ascending / left
    if lib is jnp:
        return jnp.zeros_like(flat).at[order].set(fractions).reshape(scores.shape)
    out = np.empty_like(flat)
    out[order] = fractions
    return out.reshape(scores.shape)


def _ascending(flat: np.ndarray) -> np.ndarray:
    """A stable order. The bits of floats that aren't below 0 grow with them, so float32 and place make one number."""
    if flat.dtype != np.float32:
        return np.argsort(flat, stable=True)
    bits = (flat + np.float32(0)).view(np.uint32).astype(np.uint64)  # -0 becomes 0
    keys = np.sort((bits << np.uint64(32)) | np.arange(flat.size, dtype=np.uint64))
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
