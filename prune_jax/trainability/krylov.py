"""Extreme singular values and eigenvalues, by one block Krylov space.

Block Lanczos with full reorthogonalisation and Rayleigh-Ritz (Musco and Musco 2015, Randomized block Krylov methods).
``jax.experimental.sparse.linalg.lobpcg_standard`` does it in a ``while_loop`` (slow at gradients of convolutions on
CPU), for one operator, 5k < n, with a number of products known only afterwards. A shifted operator c I - J Jᵀ has the
same Krylov space, so the smallest are read off the same basis.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from prune_jax.trainability import cpu
from prune_jax.trainability.checks import check_measured, check_whole
from prune_jax.trainability.memory import refuse_if_kept
from prune_jax.trainability.operators import Estimate, check_budget, jacobian_of
from prune_jax.trainability.passes import Apply
from prune_jax.trainability.singular_values import resolution

_OVERSAMPLING = 2
_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
Product = Callable[[jax.Array], tuple[jax.Array, ...]]  # of rows (batch, b, r): arrays (batch, b, ...)


def largest_jsv(
    apply: Apply, x: jax.Array, k: int, *, budget: int, key: jax.Array, check: bool = True
) -> Estimate:
    """The ``k`` largest singular values of each example, with bounds on their errors.

    A step on a block of k + 2 vectors takes a pull-back and a push-forward of each. Ritz values of the largest
    come from below. ``budget`` / 2 vectors of size K and D are kept for each example.

    Args:
        apply, x, check: as for ``jacobians``.
        k: how many values.
        budget: Jacobian products for each example.
        key: of the random start.

    Returns:
        An ``Estimate`` of ``(batch, k)``, descending. ``error`` is a bound: a singular value lies within it of the Ritz
        value (‖J v - s u‖ for the residual). That it is the i-th largest is likely, not certain.

    Raises:
        ValueError: for bad input, a ``k`` that is not among the min(K, D) values, a budget under one step, more
            than fits memory, and, outside a ``jit``, for weights or values that aren't finite.

    Example:
        >>> stretch = Partial(jnp.multiply, jnp.array([[1.0, 4.0]]))
        >>> round(float(largest_jsv(stretch, jnp.ones((1, 2)), 1, budget=4, key=jax.random.key(0)).value[0, 0]), 4)
        4.0

    Source: Musco and Musco 2015 for the space, Parlett 1998, 4.5, for the bound.
    """
    return _ritz(apply, x, k, budget, key, check, slice(k))


def smallest_jsv(
    apply: Apply, x: jax.Array, k: int, *, budget: int, key: jax.Array, check: bool = True
) -> Estimate:
    """The ``k`` smallest of the min(K, D) singular values of each example, with bounds on their errors.

    Ritz values come from above here, and slowly where small values crowd: trust the bound. With a budget of 2 min(K, D)
    the space is complete and the values are exact.

    Args:
        apply, x, k, budget, key, check: as for ``largest_jsv``.

    Returns:
        As ``largest_jsv``, ascending.

    Raises:
        ValueError: as ``largest_jsv``.

    Example:
        >>> stretch = Partial(jnp.multiply, jnp.array([[1.0, 4.0]]))
        >>> round(float(smallest_jsv(stretch, jnp.ones((1, 2)), 1, budget=4, key=jax.random.key(0)).value[0, 0]), 4)
        1.0
    """
    return _ritz(apply, x, k, budget, key, check, slice(None, -k - 1, -1))


def _ritz(
    apply: Apply, x: jax.Array, k: int, budget: int, key: jax.Array, check: bool, wanted: slice
) -> Estimate:
    """Those ``wanted`` of the Ritz values, which descend, with bounds."""
    budget = check_budget(budget, 2, "a step takes a pull-back and a push-forward of each vector")
    k = check_whole("k", k)
    jacobian = jacobian_of(apply, x, check=check)
    if not 1 <= k <= jacobian.small:
        raise ValueError(f"k is {k}; each example has {jacobian.small} singular values")
    block = min(k + _OVERSAMPLING, jacobian.small)
    check_budget(budget, 2 * block, f"a step pulls back and pushes forward {block} vectors (k = {k})")
    size = min(budget // 2, jacobian.small)
    kept = size * (3 * jacobian.small + 2 * max(jacobian.outputs, jacobian.inputs))
    refuse_if_kept(kept, jacobian.dtype.itemsize, jacobian.batch, f"a Krylov space of {size} vectors")

    def product(new: jax.Array) -> tuple[jax.Array, jax.Array]:
        there = jacobian.there(jnp.moveaxis(new, 1, 0))
        return jnp.moveaxis(jacobian.back(there), 0, 1), jnp.moveaxis(there, 0, 1)

    start = jax.random.normal(key, (jacobian.batch, size, jacobian.small), jacobian.dtype)
    basis, back, there = krylov_space(product, start, block)
    values, bounds = _ritz_values(basis, back, there)
    check_measured(values, apply, "extreme singular values")
    bounds = jnp.maximum(bounds, resolution("svd", jacobian.network_dtype) * values[:, :1])
    return Estimate(values[:, wanted], bounds[:, wanted], 2 * basis.shape[1])


@jax.jit
def _ritz_values(basis: jax.Array, back: jax.Array, there: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Ritz values s, descending, and the distance from each to a singular value, given ‖J Jᵀ u - s² u‖.

    By the pair (u, v), or from the squares.
    """
    _, values, rotation = cpu.each(lambda tall: jnp.linalg.svd(jnp.linalg.qr(tall, mode="r")), there.mT)
    image, left = _matmul(rotation, back), _matmul(rotation, basis)
    off = jnp.linalg.norm(image - values[..., None] ** 2 * left, axis=-1)
    by_pair = off / jnp.where(values > 0, values, 1.0) / 2**0.5
    above = jnp.sqrt(values**2 + off) - values
    below = values - jnp.sqrt(jnp.maximum(values**2 - off, 0.0))
    by_square = jnp.maximum(above, below)
    return values, jnp.where(values > 0, jnp.minimum(by_pair, by_square), by_square)


def krylov_space(product: Product, start: jax.Array, block: int) -> tuple[jax.Array, ...]:
    """Orthonormal rows (batch, size, r) of a block Krylov space, and all that ``product`` gives of them.

    ``product`` maps a block of rows (batch, b, r) to arrays (batch, b, ...), of which the first are the operator's
    images. ``start`` (batch, size, r) is random: its first ``block`` rows begin the space, the others replace
    directions that have run out.
    """
    new = cpu.each(_orthonormal, start[:, :block].mT).mT
    basis, found, size = new, [product(new)], start.shape[1]
    while basis.shape[1] < size:
        have = basis.shape[1]
        width = min(block, size - have)
        new = _next_block(basis, found[-1][0][:, :width], start[:, have : have + width])
        basis = jnp.concatenate([basis, new], 1)
        found.append(product(new))
    return basis, *(jnp.concatenate(parts, 1) for parts in zip(*found, strict=True))


@jax.jit
def _next_block(basis: jax.Array, rows: jax.Array, spare: jax.Array) -> jax.Array:
    """Orthonormal rows that extend ``basis`` towards ``rows``. What has run out is replaced at random.

    Three times: where the space is exhausted the first QR returns noise, which only then can be made orthogonal.
    """
    size = jnp.linalg.norm(rows, axis=-1, keepdims=True)
    rows = rows / jnp.where(size == 0, 1.0, size) + jnp.finfo(rows.dtype).eps * spare
    for _ in range(3):
        rows = rows - _matmul(_matmul(rows, basis.mT), basis)
        rows = cpu.each(_orthonormal, rows.mT).mT
    return rows


def _orthonormal(tall: jax.Array) -> jax.Array:
    return jnp.linalg.qr(tall)[0]


class TopEigenvalues(NamedTuple):
    """Estimates of the largest eigenvalues, descending, and bounds on their errors.

    values: (k,), from below: none exceeds the eigenvalue that it stands for. residuals: ||A y - value y||. An
    eigenvalue of A lies within the residual of each value, but for rounding. products: operator products spent.
    """

    values: jax.Array
    residuals: jax.Array
    products: int


def top_eigenvalues(
    operator: Callable[[jax.Array], jax.Array],
    size: int,
    key: jax.Array,
    *,
    count: int,
    steps: int,
    dtype: Any,
) -> TopEigenvalues:
    """The ``count`` largest eigenvalues of a symmetric ``(size, size)`` operator on rows (b, size), by block Lanczos.

    Rayleigh-Ritz on the Krylov space of a Gaussian block of ``count`` vectors after ``steps`` products (Golub and
    Underwood 1977, Parlett 1998, ch. 13). Raises ValueError unless 1 <= count, 1 <= steps, count * steps <= size.
    """
    if count < 1 or steps < 1 or count * steps > size:
        raise ValueError(
            f"count={count} and steps={steps} must be at least 1 and their product at most the {size} "
            "dimensions: take fewer steps, or the exact spectrum of a kernel this small"
        )
    start = jax.random.normal(key, (1, count * steps, size), dtype)
    (basis,), (images,) = krylov_space(lambda rows: (operator(rows[0])[None],), start, count)
    values, residuals = _largest(basis, images, count)
    return TopEigenvalues(values, residuals, len(basis))


@partial(jax.jit, static_argnames="count")
def _largest(basis: jax.Array, images: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Ritz values, descending, and residuals, of an orthonormal basis and its images."""
    small = _matmul(images, basis.T)
    values, vectors = jnp.linalg.eigh((small + small.T) / 2)
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count].T
    rest = _matmul(vectors, images) - values[:, None] * _matmul(vectors, basis)
    return values, jnp.linalg.norm(rest, axis=1)
