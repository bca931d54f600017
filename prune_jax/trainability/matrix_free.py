"""Stochastic Lanczos quadrature: mean singular value, log-determinant and spectral density, each example's own.

Source of the method: Ubaru, Chen and Saad 2017, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature;
the density as in Lin, Saad and Yang 2016, 3.2. One probe of m steps costs 2m - 1 products, ``budget`` buys as
many probes as it can, and the error joins their spread with what the truncation leaves (``integrate``).
Pure functions of ``apply`` with static ``budget`` and ``steps``: jit-able and vmap-able.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from prune_jax.trainability import factorise
from prune_jax.trainability.lanczos import bidiagonalise, integrate, products_of
from prune_jax.trainability.operators import (
    Apply,
    Estimate,
    check_budget,
    check_input,
    check_outputs,
    jacobian_of,
)
from prune_jax.trainability.singular_values import resolution

_STEPS = 8


def mean_jsv_by_quadrature(
    apply: Apply, x: jax.Array, *, budget: int, key: jax.Array, steps: int | None = None
) -> Estimate:
    """Mean over the min(K, D) singular values of each example: (batch,), with standard errors.

    ``budget`` products for each example, ``steps`` Lanczos steps for each probe (default: up to 8, as many as
    leave four probes; more than ``min(K, D)`` are not made). ``apply`` as for ``jacobian_of``. Raises
    ValueError for bad input or a budget that doesn't buy two probes.
    """
    return _quadrature(apply, x, lambda s, _: s, budget, key, steps)


def log_determinant_by_quadrature(
    apply: Apply,
    x: jax.Array,
    *,
    budget: int,
    key: jax.Array,
    steps: int | None = None,
    threshold: float | None = None,
) -> Estimate:
    """Σ log s² of each example over its resolved values, log det(J Jᵀ) where all are: (batch,).

    Resolved is a value above ``threshold`` times the example's largest (default: ``resolution`` of an SVD).
    Where some values are resolved and small and others zero, few steps can't tell the two apart: the error
    shows it. Other arguments and errors as ``mean_jsv_by_quadrature``.
    """
    check_input(x)
    logits = jax.eval_shape(apply, x)
    check_outputs(logits)
    lowest = resolution("svd", logits.dtype) if threshold is None else threshold

    def log_square(s: jax.Array, largest: jax.Array) -> jax.Array:
        resolved = s > lowest * largest[..., None]
        return jnp.where(resolved, 2 * jnp.log(jnp.where(resolved, s, 1.0)), 0.0)

    found = _quadrature(apply, x, log_square, budget, key, steps)
    values = min(logits.shape[1], x[0].size)
    return Estimate(values * found.value, values * found.error, found.pull_backs)


def spectral_density(
    apply: Apply,
    x: jax.Array,
    *,
    points: jax.Array,
    width: float,
    budget: int,
    key: jax.Array,
    steps: int | None = None,
) -> Estimate:
    """Density of each example's singular values at ``points``, smoothed by a Gaussian: (batch, points).

    That is, the mean over the min(K, D) values s of the normal density N(point; s, ``width``²). The smaller
    the width, the more steps it takes to resolve. Other arguments and errors as ``mean_jsv_by_quadrature``.
    """
    if not width > 0 or jnp.ndim(points) != 1:
        raise ValueError(
            f"width is {width!r} and points have rank {jnp.ndim(points)}; need width > 0, rank 1"
        )

    def normal(s: jax.Array, _: jax.Array) -> jax.Array:
        at = jnp.asarray(points, s.dtype).reshape((1,) * s.ndim + (-1,))
        return jnp.exp(-0.5 * ((at - s[..., None]) / width) ** 2) / (width * (2 * jnp.pi) ** 0.5)

    return _quadrature(apply, x, normal, budget, key, steps)


def over_examples(estimate: Estimate) -> Estimate:
    """Mean over the examples of a batch, with the standard error of an n-sample of examples.

    The spread of the per-example values holds both the differences between examples and the probes' noise,
    so that one error covers the two. Raises ValueError for fewer than two examples.
    """
    examples = estimate.value.shape[0]
    if examples < 2:
        raise ValueError("over_examples needs two examples: one has no spread to take an error from")
    error = jnp.std(estimate.value, 0, ddof=1) / examples**0.5
    return Estimate(jnp.mean(estimate.value, 0), error, estimate.pull_backs * examples)


def _quadrature(
    apply: Apply, x: jax.Array, function: Callable, budget: int, key: jax.Array, steps: int | None
) -> Estimate:
    check_budget(budget, 2, "an error bar needs two probes")
    jacobian = jacobian_of(apply, x)
    steps, probes = _share_out(budget, steps, jacobian.small)
    start = jax.random.rademacher(key, (probes, jacobian.batch, jacobian.small), jacobian.dtype)
    bidiagonal = bidiagonalise(jacobian, start, steps)
    largest = factorise.each(_norm, bidiagonal)
    found = integrate(bidiagonal, lambda s: function(s, largest))
    noise = jnp.std(found.value, 0, ddof=1) / probes**0.5
    error = jnp.hypot(noise, jnp.mean(found.uncertainty, 0))
    return Estimate(jnp.mean(found.value, 0), error, probes * products_of(steps))


def _norm(matrix: jax.Array) -> jax.Array:
    return jnp.linalg.norm(matrix, 2, axis=(-2, -1))


def _share_out(budget: int, steps: int | None, values: int) -> tuple[int, int]:
    """Lanczos steps of a probe, and probes."""
    if steps is None:
        steps = min(_STEPS, max(2, (budget // 4 + 1) // 2))
    if steps < 1:
        raise ValueError(f"steps is {steps}; a probe takes at least 1")
    steps = min(steps, values)
    cost = products_of(steps)
    check_budget(
        budget, 2 * cost, f"{steps} Lanczos steps take {cost} products (a pull-back each, push-forwards "
        "between them) and an error bar needs two probes"
    )  # fmt: skip
    return steps, budget // cost
