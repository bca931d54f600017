"""What a set of singular values says, in float64 on the host; needs no JAX."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Statistics(NamedTuple):
    """Statistics of singular values s; arrays ``(n,)`` per example (quantiles ``(n, Q)``), else scalars.

    Over all values, an unresolved one taken as 0 (it is smaller than the stated resolution): ``mean``,
    ``std`` (divided by the count), ``max``, ``isometry_gap`` (mean of (s - 1)^2, the distance from dynamical
    isometry) and ``quantiles`` (linear interpolation; NaN where a quantile lies among the unresolved).
    Over the resolved values only, NaN without any: ``min``, ``condition`` (max / min) and
    ``log_determinant`` (sum of log s^2, that is log det J J^T).
    """

    mean: Any
    std: Any
    max: Any
    min: Any
    condition: Any
    quantiles: Any
    isometry_gap: Any
    log_determinant: Any


def per_example(values: np.ndarray, quantiles: Sequence[float]) -> Statistics:
    """Statistics of each row of ``values`` ``(n, r)``, in which NaN marks what is not resolved."""
    resolved = np.isfinite(values)
    filled = np.where(resolved, values, 0.0)
    largest = filled.max(1)
    smallest = np.where(resolved.any(1), np.where(resolved, values, np.inf).min(1), np.nan)
    at = np.quantile(filled, quantiles, axis=1).T
    logs = np.log(np.where(resolved, values, 1.0))
    return Statistics(
        mean=filled.mean(1),
        std=filled.std(1),
        max=largest,
        min=smallest,
        condition=largest / smallest,
        quantiles=np.where(at >= smallest[:, None], at, np.nan),
        isometry_gap=((filled - 1) ** 2).mean(1),
        log_determinant=np.where(resolved.any(1), 2 * logs.sum(1), np.nan),
    )


def pooled(values: np.ndarray, quantiles: Sequence[float]) -> Statistics:
    """Statistics of all values of all examples together; the log-determinant is the mean of those that have one.

    Where ranks differ, log-determinants are sums of different lengths: an example that loses a small value has a
    larger one. Compare them at equal rank.
    """
    whole = Statistics(*(field[0] for field in per_example(values.reshape(1, -1), quantiles)))
    return whole._replace(log_determinant=means(per_example(values, quantiles)).log_determinant)


def means(statistics: Statistics) -> Statistics:
    """Mean over examples of each per-example statistic; examples without a value are left out, NaN where all are."""

    def mean(field: np.ndarray) -> Any:
        known = np.isfinite(field)
        total, count = np.where(known, field, 0.0).sum(0), known.sum(0)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)[()]

    return Statistics(*map(mean, statistics))


def standard_errors(statistics: Statistics) -> Statistics:
    """Standard errors of ``means``, over the examples that have a value; NaN where fewer than two have."""

    def error(field: np.ndarray, mean: Any) -> Any:
        known = np.isfinite(field)
        count = known.sum(0)
        squares = np.where(known, field - mean, 0.0) ** 2
        return np.where(
            count > 1, (squares.sum(0) / np.maximum(count - 1, 1) / np.maximum(count, 1)) ** 0.5, np.nan
        )[()]

    return Statistics(*map(error, statistics, means(statistics)))
