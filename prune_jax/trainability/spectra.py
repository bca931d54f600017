"""Jacobian spectrum of a network over a data set: one call, with error bars."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.trainability import jacobian, singular_values
from prune_jax.trainability.statistics import Statistics, per_example, pooled, standard_errors

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Spectrum(NamedTuple):
    """Singular values of n examples' Jacobians, r = min(K, D) each, and what they say.

    ``values``: float64 ``(n, r)``, descending; NaN where a value is below ``resolution`` times the largest
    of its example, thus not told from rounding. ``rank`` and ``unresolved``: how many of each example's
    values are resolved (the numerical rank) and how many are not, ``(n,)`` each. ``per_example`` and
    ``pooled``: see ``Statistics``; ``errors``: standard error, over examples, of each statistic's mean.
    ``at`` are the quantiles' probabilities.
    """

    values: np.ndarray
    rank: np.ndarray
    unresolved: np.ndarray
    per_example: Statistics
    pooled: Statistics
    errors: Statistics
    resolution: float
    at: tuple[float, ...]


def spectrum(
    apply: jacobian.Apply,
    batches: jax.Array | np.ndarray | Iterable[jax.Array | np.ndarray],
    *,
    outputs: Sequence[int] | None = None,
    chunk: int | None = None,
    method: singular_values.Method = "auto",
    quantiles: Sequence[float] = QUANTILES,
    resolution: float | None = None,
) -> Spectrum:
    """Spectrum of ``apply``'s Jacobian over ``batches``: one array ``(n, ...)`` or an iterable of arrays.

    A stream is read once; of each batch only its n x min(K, D) singular values are kept. ``apply``,
    ``outputs``, ``chunk`` and ``method`` as for ``jacobian_singular_values``; ``resolution`` (default: that
    of the method) is the share of an example's largest value below which a value counts as unresolved.
    ``apply`` is compiled once per batch shape; give weights that change as
    ``jax.tree_util.Partial(apply, variables)``, and later calls compile nothing.
    Raises ValueError for bad input, no examples, or a Jacobian that is not finite.
    """
    found: list[np.ndarray] = []
    share = resolution
    measure = _measurer(apply, outputs, chunk, method)
    for x in _stream(batches):
        values, finite = measure(x)
        _refuse_not_finite(np.asarray(finite), sum(map(len, found)))
        found.append(np.asarray(values, np.float64))
        if share is None:
            share = _resolution(apply, x, outputs, method)
    if not found or share is None:
        raise ValueError("batches holds no examples; a spectrum needs at least one")
    if len({rows.shape[1] for rows in found}) > 1:
        raise ValueError("batches hold inputs of different shapes; one spectrum needs one")
    return summarize(np.concatenate(found), resolution=share, quantiles=quantiles)


def summarize(values: np.ndarray, *, resolution: float, quantiles: Sequence[float] = QUANTILES) -> Spectrum:
    """The spectrum of singular values ``(n, r)`` that are known already (descending), on the host.

    Values that were computed inside a compiled program are described here; ``resolution`` comes from
    ``singular_values.resolution``. Raises ValueError for values that are not finite.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"values have shape {values.shape}; a spectrum needs (examples, values), not empty")
    _refuse_not_finite(np.isfinite(values).all(1), 0)
    _check_quantiles(quantiles)
    resolved = (values > resolution * values[:, :1]) & (values > 0)
    values = np.where(resolved, values, np.nan)
    each = per_example(values, quantiles)
    rank = resolved.sum(1)
    return Spectrum(
        values,
        rank,
        values.shape[1] - rank,
        each,
        pooled(values, quantiles),
        standard_errors(each),
        float(resolution),
        tuple(quantiles),
    )


def _stream(batches: jax.Array | np.ndarray | Iterable) -> Iterator:
    return iter((batches,) if hasattr(batches, "ndim") else batches)


def _measurer(apply: jacobian.Apply, outputs: Any, chunk: int | None, method: Any) -> Any:
    def measure(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = jacobian.jacobian_singular_values(apply, x, outputs=outputs, chunk=chunk, method=method)
        return values, jnp.isfinite(values).all(1)

    return jax.jit(measure)


def _resolution(apply: jacobian.Apply, x: jax.Array, outputs: Any, method: Any) -> float:
    logits = jax.eval_shape(apply, x)
    count = logits.shape[1] if outputs is None else len(outputs)
    return singular_values.resolution(method, count, x[0].size, x.dtype)


def _refuse_not_finite(finite: np.ndarray, before: int) -> None:
    if not finite.all():
        raise ValueError(
            f"the Jacobian of {int((~finite).sum())} examples is not finite, first that of example "
            f"{before + int(np.argmin(finite))}: check the weights with check_finite(params), and the images"
        )


def _check_quantiles(quantiles: Sequence[float]) -> None:
    wrong = [q for q in quantiles if not 0 <= q <= 1]
    if wrong:
        raise ValueError(f"quantile {wrong[0]} is not in [0, 1]")
