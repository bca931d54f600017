"""Golub-Kahan bidiagonalisation of many Jacobians at once, and the quadrature rules that come out of it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from prune_jax.trainability import factorise
from prune_jax.trainability.operators import Jacobian


class Integral(NamedTuple):
    """zᵀ f(√(J Jᵀ)) z / zᵀz by quadrature, and the uncertainty that the truncation leaves."""

    value: jax.Array
    uncertainty: jax.Array


def products_of(steps: int) -> int:
    """Jacobian products of ``steps`` bidiagonalisation steps: a pull-back each, push-forwards between them."""
    return 2 * steps - 1


def bidiagonalise(jacobian: Jacobian, probe: jax.Array, steps: int) -> jax.Array:
    """Lower bidiagonal B (..., batch, steps, steps) with Uᵀ J Jᵀ U = B Bᵀ; U's first column is along ``probe``.

    Golub and Kahan 1965. U, on the small side, is reorthogonalised in full, twice in each step; V, on the
    large side, isn't, and only its last vector is kept (one-sided: Simon and Zha 2000). Where the Krylov
    space is exhausted, as after one step of an orthogonal network, the rest of B is zero. ``steps`` is
    static and the loop unrolled: XLA:CPU is slow at gradients of convolutions inside loops.
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


def integrate(
    bidiagonal: jax.Array, function: Callable[[jax.Array], jax.Array], *, complete: bool = False
) -> Integral:
    """Integral of ``function`` (of singular values) over the spectral measure of the probe.

    Two rules come out of B: Gauss, and Gauss-Radau with a node at 0, from B without its last column. For
    f(s) = s they bound the integral from above and below, since the derivatives of sqrt alternate in sign
    (Golub and Meurant 2010, 6.2 and 6.3). The value divides the bracket as the two rules moved with the last
    step: whichever moved more is farther off. The uncertainty is the distance to the nearer rule over √3,
    as for a uniform error; a bound it is not, and for other functions than s the rules only indicate.
    ``complete``: the Krylov space is the whole one, where Gauss is exact. ``function`` maps (..., m) to (..., m)
    or (..., m, points).
    """
    gauss, radau = _rules(bidiagonal, function)
    if complete:
        return Integral(gauss, jnp.zeros_like(gauss))
    if bidiagonal.shape[-1] == 1:
        share = jnp.full_like(gauss, 0.5)
    else:
        gauss_before, radau_before = _rules(bidiagonal[..., :-1, :-1], function)
        moved, radau_moved = jnp.abs(gauss - gauss_before), jnp.abs(radau - radau_before)
        both = moved + radau_moved
        share = jnp.where(both > 0, moved / jnp.where(both > 0, both, 1.0), 0.5)
    value = gauss + share * (radau - gauss)
    return Integral(value, jnp.minimum(share, 1 - share) * jnp.abs(gauss - radau) / 3**0.5)


def integrate_log(bidiagonal: jax.Array, floor: jax.Array, *, complete: bool = False) -> Integral:
    """Integral of log s² over the probe's measure of singular values above ``floor``; the others count as 0.

    Gauss is an upper bound, and Gauss-Radau with its fixed node at ``floor`` (so small that it only moves the node
    at 0) a lower one, where all singular values are above (derivatives of the logarithm alternate in sign; Golub
    and Meurant 2010, 6.2). The value is the middle, the uncertainty half the distance over √3, so that the bracket
    ends at 1.7 uncertainties. Where Gauss has a node below, zeros have been found: then the node at 0 is taken
    for theirs, and the rules only indicate.
    """
    (nodes, weights), (others, shares) = _quadrature_of(bidiagonal), _quadrature_of(bidiagonal[..., :-1])
    gauss, none_missing = (_log_sum(*rule, floor) for rule in ((nodes, weights), (others, shares)))
    if complete:
        return Integral(gauss, jnp.zeros_like(gauss))
    below = floor[..., None]
    missing = (
        jnp.sum(jnp.where(others > below, 0.0, shares), -1) * 2 * jnp.log(jnp.where(floor > 0, floor, 1.0))
    )
    zeros_seen = jnp.sum(jnp.where(nodes > below, 0.0, weights), -1) > 10 * jnp.finfo(weights.dtype).eps
    rules = jnp.stack([gauss, none_missing, none_missing + jnp.where(zeros_seen, 0.0, missing)])
    low, high = jnp.min(rules, 0), jnp.max(rules, 0)
    return Integral((low + high) / 2, (high - low) / 2 / 3**0.5)


def _log_sum(nodes: jax.Array, weights: jax.Array, floor: jax.Array) -> jax.Array:
    resolved = ~(nodes <= floor[..., None])  # NaN stays
    return jnp.sum(weights * jnp.where(resolved, 2 * jnp.log(jnp.where(resolved, nodes, 1.0)), 0.0), -1)


def _rules(bidiagonal: jax.Array, function: Callable) -> tuple[jax.Array, jax.Array]:
    """Gauss and Gauss-Radau sums."""
    found = []
    for matrix in (bidiagonal, bidiagonal[..., :-1]):
        nodes, weights = _quadrature_of(matrix)
        values = function(nodes)
        if values.ndim == weights.ndim:
            found.append(jnp.sum(weights * values, -1))
        else:
            found.append(jnp.einsum("...m,...mp->...p", weights, values, precision="highest"))
    return found[0], found[1]


def _quadrature_of(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Nodes and weights: singular values, and the left singular vectors' first entries, squared."""
    left, nodes, _ = factorise.each(jnp.linalg.svd, matrix)
    missing = left.shape[-1] - nodes.shape[-1]
    return jnp.pad(nodes, [(0, 0)] * (nodes.ndim - 1) + [(0, missing)]), left[..., 0, :] ** 2


def _normalise(vector: jax.Array, tolerance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Unit vector and norm along the last axis; both 0 where the norm is within ``tolerance``, NaN where it is."""
    norm = jnp.linalg.norm(vector, axis=-1)
    norm = jnp.where(norm <= tolerance, 0.0, norm)
    return vector * jnp.where(norm == 0, 0.0, 1 / jnp.where(norm == 0, 1.0, norm))[..., None], norm


def _without(basis: jax.Array, vector: jax.Array) -> jax.Array:
    """``vector`` (..., r) without its part in the span of ``basis`` (..., m, r); twice is enough (Kahan)."""
    for _ in range(2):
        along = jnp.einsum("...mr,...r->...m", basis, vector, precision="highest")
        vector = vector - jnp.einsum("...mr,...m->...r", basis, along, precision="highest")
    return vector


def _bidiagonal(alphas: list[jax.Array], betas: list[jax.Array]) -> jax.Array:
    steps = len(alphas)
    rows = []
    for i in range(steps):
        zero = jnp.zeros_like(alphas[0])
        row = [zero] * steps
        row[i] = alphas[i]
        if i:
            row[i - 1] = betas[i - 1]
        rows.append(jnp.stack(row, -1))
    return jnp.stack(rows, -2)
