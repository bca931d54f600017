"""Mean squared Jacobian singular value from pull-backs of random cotangents alone."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.trainability.operators import Apply, Estimate, check_budget, jacobian_of
from prune_jax.trainability.weights import check_measured


def mean_squared_jsv(
    apply: Apply, x: jax.Array, *, budget: int, key: jax.Array, check: bool = True
) -> Estimate:
    """Mean of s² over the r = min(K, D) singular values of each example: (batch,), with standard errors.

    Unbiased: ``budget`` random sign vectors z are pulled back (pushed forward where D < K), and ‖Jᵀz‖²/r has
    that mean (Hutchinson 1990). The error is the standard error over the probes; with few of them it is
    itself rough (Student t with ``budget`` - 1 degrees of freedom). ``apply`` as for ``jacobian_of``. The result is
    float64, on the host, so that no square leaves its range; inside a trace float32, for s from 1e-18 to 1e18.
    Raises ValueError for bad input, a budget under 2, and, outside a ``jit``, weights or values that aren't finite.
    """
    budget = check_budget(budget, 2, "an error bar needs two probes, of one pull-back each")
    jacobian = jacobian_of(apply, x, check=check)
    probes = jax.random.rademacher(key, (budget, jacobian.batch, jacobian.small), jacobian.dtype)
    # as many at once as memory takes: what comes back is as large as the input, and only its norm is kept
    pieces = [probes[start : start + jacobian.step] for start in range(0, budget, jacobian.step)]
    found = [scaled_squares([jacobian.there(piece)], (-1,)) for piece in pieces]
    squares, scales = (jnp.concatenate(part) for part in zip(*found, strict=True))
    value, error = mean_of_scaled(squares / jacobian.small, scales)
    check_measured(value, apply, "mean squared singular value")
    return Estimate(value, error, budget)


def scaled_squares(arrays: Sequence[jax.Array], axes: tuple[int, ...] | None) -> tuple[jax.Array, jax.Array]:
    """``(squares, scale)`` with ``squares * scale**2`` the sum of the arrays' squares over ``axes``."""
    largest = [jnp.max(jnp.abs(array), axes, keepdims=True, initial=0.0) for array in arrays]
    scale = functools.reduce(jnp.maximum, [jnp.max(found, axes) for found in largest])
    scale = jax.lax.stop_gradient(jnp.where(scale > 0, scale, 1.0))  # it cancels
    by = scale if axes is None else jnp.expand_dims(scale, axes)
    return sum((jnp.sum(jnp.square(a / by), axes) for a in arrays), start=jnp.zeros(())), scale


def mean_of_scaled(squares: jax.Array, scales: jax.Array) -> tuple[Any, Any]:
    """Mean over axis 0 of ``squares * scales**2`` and its standard error; NumPy float64 where no trace hides them."""
    top = jnp.max(scales, 0, keepdims=True)
    samples = squares * jnp.square(scales / top)
    found = jnp.mean(samples, 0), jnp.std(samples, 0, ddof=1) / len(samples) ** 0.5
    top = top[0]
    if any(isinstance(array, jax.core.Tracer) for array in (*found, top)):
        return found[0] * top * top, found[1] * top * top
    wide = np.asarray(top, np.float64)
    return np.asarray(found[0], np.float64) * wide**2, np.asarray(found[1], np.float64) * wide**2
