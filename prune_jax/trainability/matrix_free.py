"""Stochastic Lanczos quadrature: mean singular value, log-determinant and spectral density, each example's own.

Source of the method: Ubaru, Chen and Saad 2017, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature;
the density as in Lin, Saad and Yang 2016, 3.2. One probe of m steps costs 2m - 1 products, ``budget`` buys as
many probes as it can, and the error joins their spread with what the truncation leaves (``integrate``).
Pure functions of ``apply`` with static ``budget`` and ``steps``: jit-able and vmap-able.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from prune_jax.trainability import factorise
from prune_jax.trainability.inputs import check_whole
from prune_jax.trainability.lanczos import Integral, bidiagonalise, integrate, integrate_log, products_of
from prune_jax.trainability.memory import refuse_if_kept
from prune_jax.trainability.operators import (
    Apply,
    Estimate,
    Jacobian,
    check_budget,
    jacobian_of,
)
from prune_jax.trainability.singular_values import resolution
from prune_jax.trainability.weights import check_measured

_STEPS = 8


def mean_jsv_by_quadrature(
    apply: Apply, x: jax.Array, *, budget: int, key: jax.Array, steps: int | None = None, check: bool = True
) -> Estimate:
    """Mean over the min(K, D) singular values of each example: (batch,), with standard errors.

    ``budget`` products for each example, ``steps`` Lanczos steps for each probe (default: 8, from a budget of 128
    on as many as probes, but four probes at least; more than ``min(K, D)`` are not made: with so many the rule is
    exact). The error of few probes is itself rough. ``apply`` as for ``jacobian_of``. Raises ValueError for bad
    input, a budget that doesn't buy two probes, more than fits memory, and, outside a ``jit``, for weights or
    values that aren't finite.
    """
    return _quadrature(apply, x, lambda s: s, budget, key, steps, "mean singular value", check)


def log_determinant_by_quadrature(
    apply: Apply,
    x: jax.Array,
    *,
    budget: int,
    key: jax.Array,
    steps: int | None = None,
    threshold: float | None = None,
    check: bool = True,
) -> Estimate:
    """Σ log s² of each example over its resolved values, log det(J Jᵀ) where all are: (batch,).

    Resolved is a value above ``threshold`` times the example's largest (default: ``resolution`` of an SVD in the
    coarsest format that the network computes in). The logarithm feels the small values, which a Krylov space finds
    last: so ``steps`` is by default as many as leave four probes, and where all values are resolved the error holds
    what few steps may have missed, down to the threshold. It is large then: with ``min(K, D)`` steps nothing is
    missed. Where zeros have been found, few steps can't tell them from small values, and the error only indicates.
    Other arguments and errors as ``mean_jsv_by_quadrature``.
    """
    jacobian, steps, probes = _prepare(apply, x, budget, steps, _most_steps, check)
    lowest = resolution("svd", jacobian.network_dtype) if threshold is None else threshold
    bidiagonal = _bidiagonal(jacobian, probes, steps, key)
    floor = lowest * factorise.each(_norm, bidiagonal)
    found = integrate_log(bidiagonal, floor, complete=steps == jacobian.small)
    sums = Integral(jacobian.small * found.value, jacobian.small * found.uncertainty)
    return _estimate(sums, probes, steps, apply, "log-determinant")


def spectral_density(
    apply: Apply,
    x: jax.Array,
    *,
    points: jax.Array,
    width: float,
    budget: int,
    key: jax.Array,
    steps: int | None = None,
    check: bool = True,
) -> Estimate:
    """Density of each example's singular values at ``points``, smoothed by a Gaussian: (batch, points).

    That is, the mean over the min(K, D) values s of the normal density N(point; s, ``width``²). The smaller
    the width, the more steps it takes to resolve. Other arguments and errors as ``mean_jsv_by_quadrature``.
    """
    if jnp.ndim(points) != 1 or not (isinstance(width, jax.core.Tracer) or width > 0):
        raise ValueError(
            f"width is {width!r} and points have rank {jnp.ndim(points)}; need width > 0, rank 1"
        )

    def normal(s: jax.Array) -> jax.Array:
        at = jnp.asarray(points, s.dtype).reshape((1,) * s.ndim + (-1,))
        return jnp.exp(-0.5 * ((at - s[..., None]) / width) ** 2) / (width * (2 * jnp.pi) ** 0.5)

    return _quadrature(apply, x, normal, budget, key, steps, "spectral density", check)


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
    apply: Apply,
    x: jax.Array,
    function: Callable,
    budget: int,
    key: jax.Array,
    steps: int | None,
    what: str,
    check: bool,
) -> Estimate:
    jacobian, steps, probes = _prepare(apply, x, budget, steps, _balanced_steps, check)
    bidiagonal = _bidiagonal(jacobian, probes, steps, key)
    found = integrate(bidiagonal, function, complete=steps == jacobian.small)
    return _estimate(found, probes, steps, apply, what)


def _prepare(
    apply: Apply, x: jax.Array, budget: int, steps: int | None, default: Callable[[int], int], check: bool
) -> tuple[Jacobian, int, int]:
    """The Jacobians, Lanczos steps of a probe, and probes; ValueError for bad input."""
    budget = check_budget(budget, 2, "an error bar needs two probes")
    jacobian = jacobian_of(apply, x, check=check)
    steps = default(budget) if steps is None else check_whole("steps", steps)
    if steps < 1:
        raise ValueError(f"steps is {steps}; a probe takes at least 1")
    steps = min(steps, jacobian.small)
    cost = products_of(steps)
    check_budget(
        budget, 2 * cost, f"{steps} Lanczos steps take {cost} products (a pull-back each, push-forwards "
        "between them) and an error bar needs two probes"
    )  # fmt: skip
    probes = budget // cost
    kept = probes * ((steps + 2) * jacobian.small + 3 * max(jacobian.outputs, jacobian.inputs))
    refuse_if_kept(kept, jacobian.dtype.itemsize, jacobian.batch, f"Lanczos with {probes} probes")
    return jacobian, steps, probes


def _most_steps(budget: int) -> int:
    """Lanczos steps that leave four probes."""
    return max(2, (budget // 4 + 1) // 2)


def _balanced_steps(budget: int) -> int:
    """As many steps as probes, so that with the budget the truncation falls as well as the probes' noise."""
    return min(_most_steps(budget), max(_STEPS, math.isqrt(budget // 2)))


def _bidiagonal(jacobian: Jacobian, probes: int, steps: int, key: jax.Array) -> jax.Array:
    start = jax.random.rademacher(key, (probes, jacobian.batch, jacobian.small), jacobian.dtype)
    return bidiagonalise(jacobian, start, steps)


def _estimate(found: Integral, probes: int, steps: int, apply: Apply, what: str) -> Estimate:
    """Over the probes, axis 0: their spread and what truncation leaves make the error."""
    noise = jnp.std(found.value, 0, ddof=1) / probes**0.5
    value = jnp.mean(found.value, 0)
    check_measured(value, apply, what)
    return Estimate(value, jnp.hypot(noise, jnp.mean(found.uncertainty, 0)), probes * products_of(steps))


def _norm(matrix: jax.Array) -> jax.Array:
    return jnp.linalg.norm(matrix, 2, axis=(-2, -1))
