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
    flat = scores.reshape(-1).astype(
        np.float64 if lib is np else jnp.promote_types(scores.dtype, jnp.float32)
    )
    order = lib.argsort(flat, stable=True)
    ascending = flat[order]
    left = lib.maximum(lib.cumsum(ascending[::-1])[::-1], lib.finfo(flat.dtype).tiny)
    fractions = ascending / left
    if lib is jnp:
        return jnp.zeros_like(flat).at[order].set(fractions).reshape(scores.shape)
    out = np.empty_like(flat)
    out[order] = fractions
    return out.reshape(scores.shape)
