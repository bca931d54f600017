"""The largest eigenvalues of a symmetric operator that is known by its products alone."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Block = Callable[[jax.Array], jax.Array]  # (n, b) -> (n, b): the operator on b vectors


class TopEigenvalues(NamedTuple):
    """Estimates of the largest eigenvalues, descending, and bounds on their errors.

    values: (k,), from below: none exceeds the eigenvalue that it stands for. residuals: ||A y - value y||;
    an eigenvalue of A lies within the residual of each value (exact arithmetic; rounding adds its share).
    products: operator products spent.
    """

    values: jax.Array
    residuals: jax.Array
    products: int


def top_eigenvalues(
    block: Block, size: int, key: jax.Array, *, count: int, steps: int, dtype: jnp.dtype
) -> TopEigenvalues:
    """The ``count`` largest eigenvalues of a symmetric ``(size, size)`` operator by block Lanczos.

    Rayleigh-Ritz on the Krylov space of a Gaussian block of ``count`` vectors after ``steps`` products,
    each block orthogonalised against all before it (Golub and Underwood, 1977; Parlett, 1998, The Symmetric
    Eigenvalue Problem, ch. 13). The loop runs in Python, so that no gradient of a convolution is inside a
    compiled loop. Raises ValueError unless 1 <= count, 1 <= steps and count * steps <= size.
    """
    if count < 1 or steps < 1 or count * steps > size:
        raise ValueError(
            f"count={count} and steps={steps} must be at least 1 and their product at most the {size} "
            "dimensions: take fewer steps, or the exact spectrum of a kernel this small"
        )
    current = jnp.linalg.qr(jax.random.normal(key, (size, count), dtype))[0]
    basis, images = [current], [block(current)]
    for _ in range(steps - 1):
        current = _next(jnp.concatenate(basis, axis=1), images[-1])
        basis.append(current)
        images.append(block(current))
    return _rayleigh_ritz(jnp.concatenate(basis, axis=1), jnp.concatenate(images, axis=1), count)


def _next(basis: jax.Array, images: jax.Array) -> jax.Array:
    # Twice on top of once: where the Krylov space is exhausted the first QR returns noise of unit length,
    # which only then can be made orthogonal.
    for _ in range(3):
        images = images - _product(basis, _product(basis.T, images))
        images = jnp.linalg.qr(images)[0]
    return images


def _rayleigh_ritz(basis: jax.Array, images: jax.Array, count: int) -> TopEigenvalues:
    small = _product(basis.T, images)
    values, vectors = jnp.linalg.eigh((small + small.T) / 2)
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    rest = _product(images, vectors) - _product(basis, vectors) * values[None]
    return TopEigenvalues(values, jnp.linalg.norm(rest, axis=0), basis.shape[1])


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
