"""Stochastic Lanczos quadrature: mean singular value, log-determinant and spectral density, each example's own.

Source of the method: Ubaru, Chen and Saad 2017, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature.
``budget`` buys as many probes as it can. The error joins their spread with what the truncation leaves (``integrate``).
Pure functions of ``apply`` with static ``budget`` and ``steps``: jit-able and vmap-able.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from prune_jax.trainability import cpu
from prune_jax.trainability.checks import check_measured, check_whole
from prune_jax.trainability.memory import refuse_if_kept
from prune_jax.trainability.operators import Estimate, Jacobian, check_budget, jacobian_of
from prune_jax.trainability.passes import Apply
from prune_jax.trainability.singular_values import resolution

_STEPS = 8


def mean_jsv_by_quadrature(
    apply: Apply, x: jax.Array, *, budget: int, key: jax.Array, steps: int | None = None, check: bool = True
) -> Estimate:
    """Mean over the min(K, D) singular values of each example, by stochastic Lanczos quadrature.

    The error is itself rough for few probes. It is no bound: where singular values crowd at zero, few steps leave a
    bias of a few percent (docs/trainability.md has numbers).

    Args:
        apply, x, check: as for ``jacobians``.
        budget: Jacobian products for each example. A probe of m steps takes 2m - 1.
        key: of the probes.
        steps: Lanczos steps of a probe. By default 8, from a budget of 128 on as many as probes, but four probes
            at least. More than ``min(K, D)`` are not made: with so many the rule is exact.

    Returns:
        An ``Estimate`` of ``(batch,)``.

    Raises:
        ValueError: for bad input, a budget that doesn't buy two probes, more than fits memory, and, outside a
            ``jit``, for weights or values that aren't finite.

    Example:
        >>> stretch = Partial(jnp.multiply, jnp.array([[1.0, 2.0]]))
        >>> found = mean_jsv_by_quadrature(stretch, jnp.ones((1, 2)), budget=6, key=jax.random.key(0))
        >>> np.round(found.value, 4).tolist()
        [1.5]

    Source: Ubaru, Chen and Saad 2017.
    """
    probed = _probed(apply, x, budget, steps, key, check)
    found = integrate(probed.bidiagonal, jnp.positive, complete=probed.complete)  # of the values themselves
    return _estimate(probed, found, apply, "mean singular value")


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
    """Σ log s² of each example over its resolved values: log det(J Jᵀ) where all are.

    The logarithm feels the small values, which a Krylov space finds last. So the error is large for fewer than ``min(K,
    D)`` steps: it holds what they may have missed, down to the threshold. Where zeros have been found, few steps can't
    tell them from small values, and the error only indicates.

    Args:
        apply, x, budget, key, check: as for ``mean_jsv_by_quadrature``.
        steps: Lanczos steps of a probe, by default as many as leave four probes.
        threshold: share of the example's largest value above which one is resolved, by default the ``resolution``
            of an SVD in the coarsest format that the network computes in.

    Returns:
        An ``Estimate`` of ``(batch,)``.

    Raises:
        ValueError: as ``mean_jsv_by_quadrature``.

    Example:
        >>> double = Partial(jnp.multiply, 2.0)
        >>> found = log_determinant_by_quadrature(double, jnp.ones((1, 2)), budget=6, key=jax.random.key(0))
        >>> np.round(found.value / np.log(4.0), 4).tolist()
        [2.0]
    """
    probed = _probed(apply, x, budget, steps, key, check, balanced=False)
    lowest = resolution("svd", probed.jacobian.network_dtype) if threshold is None else threshold
    floor = lowest * cpu.each(_norm, probed.bidiagonal)
    found = integrate_log(probed.bidiagonal, floor, complete=probed.complete)
    found = Integral(*(probed.jacobian.small * part for part in found))
    return _estimate(probed, found, apply, "log-determinant")


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
    """Density of each example's singular values: the mean over its values s of the normal density N(point, s, width²).

    The smaller the width, the more steps it takes to resolve.

    Args:
        apply, x, budget, key, steps, check: as for ``mean_jsv_by_quadrature``.
        points: where the density is wanted, rank 1.
        width: of the Gaussian, above 0.

    Returns:
        An ``Estimate`` of ``(batch, points)``.

    Raises:
        ValueError: as ``mean_jsv_by_quadrature``, and for a width or points out of range.

    Example:
        >>> apply, at = Partial(jnp.multiply, 2.0), jnp.array([2.0])
        >>> how = {"points": at, "width": 1.0, "budget": 6, "key": jax.random.key(0)}
        >>> round(float(spectral_density(apply, jnp.ones((1, 2)), **how).value[0, 0]), 4)  # a Gaussian at its middle
        0.3989

    Source: Lin, Saad and Yang 2016, 3.2.
    """
    if jnp.ndim(points) != 1 or not (isinstance(width, jax.core.Tracer) or width > 0):
        raise ValueError(
            f"width is {width!r} and points have rank {jnp.ndim(points)}; need width > 0, rank 1"
        )
    probed = _probed(apply, x, budget, steps, key, check)
    found = integrate(probed.bidiagonal, _normal, jnp.asarray(points), width, complete=probed.complete)
    return _estimate(probed, found, apply, "spectral density")


class Integral(NamedTuple):
    """zᵀ f(√(J Jᵀ)) z / zᵀz by quadrature, and the uncertainty that the truncation leaves."""

    value: jax.Array
    uncertainty: jax.Array


class _Probed(NamedTuple):
    """What the probes gave, (probes, batch, steps, steps), of these Jacobians. ``complete``: without truncation."""

    bidiagonal: jax.Array
    jacobian: Jacobian
    complete: bool


def bidiagonalise(jacobian: Jacobian, probe: jax.Array, steps: int) -> jax.Array:
    """Lower bidiagonal B (..., batch, steps, steps) with Uᵀ J Jᵀ U = B Bᵀ, where U's first column is along ``probe``.

    Golub and Kahan 1965. U, on the small side, is reorthogonalised in full, twice in each step. V, on the
    large side, isn't, and only its last vector is kept (one-sided: Simon and Zha 2000). Where the Krylov
    space is exhausted, as after one step of an orthogonal network, the rest of B is zero.
    """
    eps = jnp.finfo(probe.dtype).eps
    scale = jnp.zeros(probe.shape[:-1], probe.dtype)
    u, _ = _normalise(probe, scale)
    basis, alphas, betas = [u], [], []
    rest = jacobian.there(u)
    for step in range(steps):
        v, alpha = _normalise(rest, eps * scale)
        alphas.append(alpha)
        if step + 1 == steps:
            break
        scale = jnp.maximum(scale, alpha)
        rest = _without(jnp.stack(basis, -2), jacobian.back(v) - alpha[..., None] * u)
        u, beta = _normalise(rest, eps * scale)
        basis.append(u)
        betas.append(beta)
        rest = jacobian.there(u) - beta[..., None] * v
    return _bidiagonal(alphas, betas)


@partial(jax.jit, static_argnames=("function", "complete"))
def integrate(
    bidiagonal: jax.Array, function: Callable[..., jax.Array], *given: Any, complete: bool = False
) -> Integral:
    """Integral of ``function`` (of singular values) over the spectral measure of the probe.

    Two rules come out of B: Gauss, and Gauss-Radau with a node at 0, from B without its last column. For
    f(s) = s they bound the integral from above and below, since the derivatives of sqrt alternate in sign
    (Golub and Meurant 2010, 6.2 and 6.3). The value divides the bracket as the two rules moved with the last
    step: whichever moved more is farther off. The uncertainty is the distance to the nearer rule over √3,
    as for a uniform error. For other functions than s the rules only indicate. ``complete``: the Krylov space is the
    whole one, where Gauss is exact. ``function`` maps (..., m), and what is ``given``, to (..., m) or (..., m, points).
    """
    gauss, radau = _rules(bidiagonal, function, given)
    if complete:
        return Integral(gauss, jnp.zeros_like(gauss))
    share = jnp.full_like(gauss, 0.5)
    if bidiagonal.shape[-1] > 1:
        gauss_before, radau_before = _rules(bidiagonal[..., :-1, :-1], function, given)
        moved, radau_moved = jnp.abs(gauss - gauss_before), jnp.abs(radau - radau_before)
        both = moved + radau_moved
        share = jnp.where(both > 0, moved / jnp.where(both > 0, both, 1.0), 0.5)
    value = gauss + share * (radau - gauss)
    return Integral(value, jnp.minimum(share, 1 - share) * jnp.abs(gauss - radau) / 3**0.5)


@partial(jax.jit, static_argnames="complete")
def integrate_log(bidiagonal: jax.Array, floor: jax.Array, *, complete: bool = False) -> Integral:
    """Integral of log s² over the probe's measure of singular values above ``floor``. The others count as 0.

    Gauss is an upper bound, and Gauss-Radau with its fixed node at ``floor`` (so small that it only moves the node
    at 0) a lower one, where all singular values are above (Golub and Meurant 2010, 6.2). The value is the middle, the
    uncertainty half the distance over √3. Where Gauss has a node below, zeros have been found: then the node at 0 is
    taken for theirs, and the rules only indicate.
    """
    (nodes, weights), (others, shares) = _quadrature_of(bidiagonal), _quadrature_of(bidiagonal[..., :-1])
    gauss, none_missing = (_log_sum(*rule, floor) for rule in ((nodes, weights), (others, shares)))
    if complete:
        return Integral(gauss, jnp.zeros_like(gauss))
    below, lowest = floor[..., None], 2 * jnp.log(jnp.where(floor > 0, floor, 1.0))
    missing = jnp.sum(jnp.where(others > below, 0.0, shares), -1) * lowest
    zeros_seen = jnp.sum(jnp.where(nodes > below, 0.0, weights), -1) > 10 * jnp.finfo(weights.dtype).eps
    rules = jnp.stack([gauss, none_missing, none_missing + jnp.where(zeros_seen, 0.0, missing)])
    low, high = jnp.min(rules, 0), jnp.max(rules, 0)
    return Integral((low + high) / 2, (high - low) / 2 / 3**0.5)


def _normal(s: jax.Array, points: jax.Array, width: Any) -> jax.Array:
    at = points.astype(s.dtype).reshape((1,) * s.ndim + (-1,))
    return jnp.exp(-0.5 * ((at - s[..., None]) / width) ** 2) / (width * (2 * jnp.pi) ** 0.5)


def _log_sum(nodes: jax.Array, weights: jax.Array, floor: jax.Array) -> jax.Array:
    resolved = ~(nodes <= floor[..., None])  # NaN stays
    return jnp.sum(weights * jnp.where(resolved, 2 * jnp.log(jnp.where(resolved, nodes, 1.0)), 0.0), -1)


def _rules(bidiagonal: jax.Array, function: Callable, given: tuple[Any, ...]) -> list[jax.Array]:
    """Gauss and Gauss-Radau sums."""
    found = []
    for nodes, weights in map(_quadrature_of, (bidiagonal, bidiagonal[..., :-1])):
        values = function(nodes, *given)
        at_points = jnp.expand_dims(weights, tuple(range(weights.ndim, values.ndim)))
        found.append(jnp.sum(at_points * values, weights.ndim - 1))
    return found


@jax.jit
def _quadrature_of(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Nodes and weights: singular values, and the left singular vectors' first entries, squared."""
    left, nodes, _ = cpu.each(jnp.linalg.svd, matrix)
    missing = left.shape[-1] - nodes.shape[-1]
    return jnp.pad(nodes, [(0, 0)] * (nodes.ndim - 1) + [(0, missing)]), left[..., 0, :] ** 2


@jax.jit
def _normalise(vector: jax.Array, tolerance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Unit vector and norm along the last axis. Both 0 where the norm is within ``tolerance``, NaN where it is."""
    norm = jnp.linalg.norm(vector, axis=-1)
    norm = jnp.where(norm <= tolerance, 0.0, norm)
    return vector * jnp.where(norm == 0, 0.0, 1 / jnp.where(norm == 0, 1.0, norm))[..., None], norm


@jax.jit
def _without(basis: jax.Array, vector: jax.Array) -> jax.Array:
    """``vector`` (..., r) without its part in the span of ``basis`` (..., m, r). Twice is enough (Kahan)."""
    for _ in range(2):
        along = jnp.einsum("...mr,...r->...m", basis, vector, precision="highest")
        vector = vector - jnp.einsum("...mr,...m->...r", basis, along, precision="highest")
    return vector


@jax.jit
def _bidiagonal(alphas: list[jax.Array], betas: list[jax.Array]) -> jax.Array:
    at = jnp.arange(len(alphas))
    found = jnp.zeros((*alphas[0].shape, len(at), len(at)), alphas[0].dtype)
    found = found.at[..., at, at].set(jnp.stack(alphas, -1))
    return found.at[..., at[1:], at[:-1]].set(jnp.stack(betas, -1)) if betas else found


def _probed(
    apply: Apply,
    x: jax.Array,
    budget: int,
    steps: int | None,
    key: jax.Array,
    check: bool,
    balanced: bool = True,
) -> _Probed:
    """Random signs, bidiagonalised as the budget allows. ValueError for bad input before any work.

    By default as many ``steps`` as leave four probes, and if ``balanced`` no more than there are probes: so the
    truncation falls with the budget as the probes' noise does.
    """
    budget = check_budget(budget, 2, "an error bar needs two probes")
    jacobian = jacobian_of(apply, x, check=check)
    most = max(2, (budget // 4 + 1) // 2)
    default = min(most, max(_STEPS, math.isqrt(budget // 2))) if balanced else most
    steps = default if steps is None else check_whole("steps", steps)
    if steps < 1:
        raise ValueError(f"steps is {steps}; a probe takes at least 1")
    steps = min(steps, jacobian.small)
    cost = 2 * steps - 1
    why = "products (a pull-back each, push-forwards between them) and an error bar needs two probes"
    check_budget(budget, 2 * cost, f"{steps} Lanczos steps take {cost} {why}")
    probes = budget // cost
    kept = probes * ((steps + 2) * jacobian.small + 3 * max(jacobian.outputs, jacobian.inputs))
    refuse_if_kept(kept, jacobian.dtype.itemsize, jacobian.batch, f"Lanczos with {probes} probes")
    start = jax.random.rademacher(key, (probes, jacobian.batch, jacobian.small), jacobian.dtype)
    return _Probed(bidiagonalise(jacobian, start, steps), jacobian, steps == jacobian.small)


def _estimate(probed: _Probed, found: Integral, apply: Apply, what: str) -> Estimate:
    """Over the probes, axis 0: their spread and what truncation leaves make the error."""
    probes, steps = len(probed.bidiagonal), probed.bidiagonal.shape[-1]
    value, error = _over_probes(found)
    check_measured(value, apply, what)
    return Estimate(value, error, probes * (2 * steps - 1))


@jax.jit
def _over_probes(found: Integral) -> tuple[jax.Array, jax.Array]:
    noise = jnp.std(found.value, 0, ddof=1) / len(found.value) ** 0.5
    return jnp.mean(found.value, 0), jnp.hypot(noise, jnp.mean(found.uncertainty, 0))


def _norm(matrix: jax.Array) -> jax.Array:
    return jnp.linalg.norm(matrix, 2, axis=(-2, -1))
