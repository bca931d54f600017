"""What a pilot's exact spectra tell of the error that each method would leave; NumPy float64 on the host."""

from typing import NamedTuple

import jax
import numpy as np

_MOST_STEPS = 32


class Spread(NamedTuple):
    """Variances seen in a pilot, of an example's mean singular value and its estimates.

    between: between examples; residual[q]: left by regression on q leading directions; noise and truncation[m]:
    of a probe, and the square of its mean error from stopping after m Lanczos steps.
    """

    between: float
    residual: dict[int, float]
    noise: float
    truncation: dict[int, float]


def spread_of(grams: jax.Array | np.ndarray, *, count: int, key: jax.Array) -> Spread:
    """Spread from the Gram matrices (n, r, r) of a pilot's Jacobians, along the output directions in order.

    ``count`` is the number of singular values that means are over. No further products are taken: leading
    blocks of a Gram matrix hold the spectrum along leading directions, and a probe of random signs, ``key``'s,
    meets each singular value with the weight that its eigenvector gives it.
    """
    matrices = np.asarray(grams, np.float64)
    size = matrices.shape[-1]
    eigenvalues, vectors = np.linalg.eigh(matrices)
    values = np.sqrt(np.maximum(eigenvalues, 0.0))
    mean = values.sum(-1) / count
    residual = {}
    for q in [2**i for i in range(12) if 2**i < size]:
        block = np.linalg.eigvalsh(matrices[:, :q, :q])
        residual[q] = _left_by_line(mean, np.sqrt(np.maximum(block, 0.0)).sum(-1) / count)
    root = (vectors * values[:, None, :]) @ vectors.mT
    # variance of zᵀ A z for random signs z: twice the squares off the diagonal
    noise = 2 * ((root**2).sum((1, 2)) - (np.diagonal(root, axis1=1, axis2=2) ** 2).sum(1))
    signs = np.asarray(jax.random.rademacher(key, (len(matrices), size)), np.float64)
    probe = np.einsum("nri,nr->ni", vectors, signs) / size**0.5
    off = mean_uncertainties(values, probe, min(size, _MOST_STEPS)) * size / count
    truncation = {m: float(off[m - 1]) ** 2 for m in range(2, len(off) + 1)}
    return Spread(float(mean.var(ddof=1)), residual, float(noise.mean()) / count**2, truncation)


def mean_uncertainties(values: np.ndarray, probe: np.ndarray, most: int) -> np.ndarray:
    """Mean over examples of ``lanczos.integrate``'s uncertainty after 1 to ``most`` steps, (most,).

    ``values`` and ``probe``: (n, r), singular values and a unit probe along their vectors. The same recurrence
    and rule as there, but of numbers that are known already, in a loop that needn't be compiled.
    """
    bidiagonal = _bidiagonal(values, probe, most)
    gauss = np.array([_rule(bidiagonal[:, :m, :m]) for m in range(1, most + 1)])
    radau = np.array([_rule(bidiagonal[:, :m, : m - 1]) for m in range(1, most + 1)])
    moved, radau_moved = (np.abs(np.diff(rule, axis=0)) for rule in (gauss, radau))
    both = moved + radau_moved
    share = np.where(both > 0, moved / np.where(both > 0, both, 1.0), 0.5)
    share = np.concatenate([np.full((1, len(values)), 0.5), share])
    off = np.mean(np.minimum(share, 1 - share) * np.abs(gauss - radau), 1) / 3**0.5
    if most == values.shape[1]:
        off[-1] = 0.0  # the whole Krylov space
    return off


def _left_by_line(values: np.ndarray, easy: np.ndarray) -> float:
    easy, values = easy - easy.mean(), values - values.mean()
    slope = (easy @ values) / max(easy @ easy, 1e-300)
    return float(((values - slope * easy) ** 2).sum() / (len(values) - 2))


def _bidiagonal(values: np.ndarray, u: np.ndarray, steps: int) -> np.ndarray:
    """As ``lanczos.bidiagonalise``, of the diagonal matrices with these ``values``: (n, steps, steps)."""
    found = np.zeros((len(values), steps, steps))
    basis, rest = [u], values * u
    for step in range(steps):
        v, alpha = _normalised(rest, values)
        found[:, step, step] = alpha[:, 0]
        if step + 1 == steps:
            break
        rest = values * v - alpha * u
        for _ in range(2):
            rest = rest - sum(b * np.sum(b * rest, 1, keepdims=True) for b in basis)
        u, beta = _normalised(rest, values)
        basis.append(u)
        found[:, step + 1, step] = beta[:, 0]
        rest = values * u - beta * v
    return found


def _normalised(vector: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vector and norm, both 0 where the norm is rounding: the Krylov space is exhausted there."""
    norm = np.linalg.norm(vector, axis=1, keepdims=True)
    norm = np.where(norm > 1e-14 * values.max(1, keepdims=True), norm, 0.0)
    return vector / np.where(norm > 0, norm, 1.0) * (norm > 0), norm


def _rule(matrix: np.ndarray) -> np.ndarray:
    left, nodes, _ = np.linalg.svd(matrix)
    return (left[:, 0, : nodes.shape[1]] ** 2 * nodes).sum(1)
