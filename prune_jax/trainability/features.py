"""How many directions a layer's features use."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import entr

from prune_jax.trainability.checks import at_least_float32, check_share, known_broken


class FeatureRank(NamedTuple):
    """Ranks of one feature matrix, scalars, all 0 for features that are 0 everywhere.

    numerical: singular values above the noise, or above ``rtol`` times the largest one (int32).
    stable: ||A||_F^2 / ||A||_2^2 (Rudelson and Vershynin, 2007, J. ACM 54(4)).
    effective: exp of the entropy of s / sum(s) (Roy and Vetterli, 2007, EUSIPCO).
    srank: fewest leading values whose sum reaches (1 - delta) of all (int32, Kumar et al., 2021,
    arXiv 2010.14498). numerical >= srank, and numerical >= effective up to what lies below the tolerance.
    Where features aren't finite, which only inside a ``jit`` isn't refused, numerical and srank are -1 and the
    others NaN.
    """

    numerical: jax.Array
    stable: jax.Array
    effective: jax.Array
    srank: jax.Array


def feature_rank(
    features: jax.Array, *, rtol: float | None = None, delta: float = 0.01, centre: bool = False
) -> FeatureRank:
    """Four ranks of a layer's features on a batch, such as what enters a network's head.

    Without ``rtol`` a value counts as none where rounding explains it. That is up to max(batch, width) times the
    epsilon of this computation times the largest value, as ``numpy.linalg.matrix_rank`` has it. It is also up to
    the epsilon of the format of ``features`` times their norm, twice what rounding each entry makes at worst. So
    don't cast a bfloat16 network's features before.

    Args:
        features: ``(batch, width)``. Ranks are at most the smaller of both: take more examples than the width.
        rtol: share of the largest singular value up to which one counts as none.
        delta: srank's share, 0.01 in its source.
        centre: takes the batch mean off first, so that a common offset is no direction.

    Returns:
        A ``FeatureRank`` of scalars, computed in float32 or wider.

    Raises:
        ValueError: for features not floating, empty, not of rank 2 or, outside a ``jit``, not finite. Also for an
            ``rtol`` outside [0, 1) or a ``delta`` outside (0, 1).

    Example:
        >>> int(feature_rank(jnp.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])).numerical)
        1

    Source: those of ``FeatureRank``.
    """
    _check(features, rtol, delta)
    return _ranks(features, rtol, delta, centre)


@partial(jax.jit, static_argnames=("rtol", "delta", "centre"))
def _ranks(features: jax.Array, rtol: float | None, delta: float, centre: bool) -> FeatureRank:
    matrix = at_least_float32(features)
    peak = jnp.max(jnp.abs(matrix))
    matrix = matrix / jnp.where(peak == 0, 1.0, peak)  # ranks don't change, and no norm overflows
    norm = jnp.linalg.norm(matrix)
    centred = matrix - jnp.mean(matrix, axis=0, keepdims=True) if centre else matrix
    values = jnp.linalg.svd(centred, compute_uv=False)
    noise = rounding_noise(values[0], norm, max(matrix.shape), features.dtype)
    floor = noise if rtol is None else rtol * values[0]
    # a zero matrix divides by 1 in place of its zero norm, which leaves 0 in the numerator
    largest, total = (jnp.where(n == 0, 1.0, n) for n in (values[0], values.sum()))
    shares = values / total
    below = jnp.cumsum(shares) < (1.0 - delta)
    some, broken = values[0] > 0, ~jnp.isfinite(norm)
    srank = jnp.where(some, jnp.minimum(jnp.sum(below) + 1, len(values)), 0)
    return FeatureRank(
        numerical=jnp.where(broken, -1, jnp.sum(values > floor)).astype(jnp.int32),
        stable=jnp.where(broken, jnp.nan, jnp.sum(jnp.square(values / largest))),
        effective=jnp.where(broken, jnp.nan, jnp.where(some, jnp.exp(jnp.sum(entr(shares))), 0.0)),
        srank=jnp.where(broken, -1, srank).astype(jnp.int32),
    )


def rounding_noise(largest: jax.Array, norm: jax.Array, size: int, came: jnp.dtype) -> jax.Array:
    """Singular values up to which rounding explains them, of a matrix whose larger side is ``size``.

    ``largest``: its largest singular value, of the computation's format. ``norm``: the Frobenius norm of what
    was rounded to the format ``came``, entry by entry.
    """
    here = float(jnp.finfo(largest.dtype).eps)
    return jnp.maximum(size * here * largest, float(jnp.finfo(came).eps) * norm)


def _check(features: jax.Array, rtol: float | None, delta: float) -> None:
    if features.ndim != 2 or features.size == 0:
        raise ValueError(
            f"features have shape {features.shape}; feature rank needs (batch, width), both at least 1: "
            "pool or flatten the other axes"
        )
    if not jnp.issubdtype(features.dtype, jnp.floating):
        raise ValueError(f"features have dtype {features.dtype}; feature rank needs floating ones")
    if broken := known_broken(features):
        raise ValueError(
            f"features hold NaN or infinity in {broken} of {features.size} values: the network has diverged, "
            "or the images are broken"
        )
    check_share("rtol", rtol)
    if not 0 < delta < 1:
        raise ValueError(f"delta is a share of the sum of singular values, in (0, 1), got {delta}")
