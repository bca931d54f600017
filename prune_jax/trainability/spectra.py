"""Jacobian spectrum of a network over a data set: one call, with error bars."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.trainability import checks, jacobian, passes, singular_values

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Statistics(NamedTuple):
    """Statistics of singular values s: arrays (n,) per example (quantiles (n, Q)), else scalars.

    An unresolved value is smaller than the stated resolution. Mean, std, max, isometry gap and quantiles take it as
    0. The others are over the resolved values alone, and NaN where there are none.

    Attributes:
      mean: of all values.
      std: standard deviation, divided by the count.
      max: the largest value.
      min: the smallest resolved value.
      condition: max / min.
      quantiles: by linear interpolation. NaN where a quantile lies among the unresolved.
      isometry_gap: mean of (s - 1)^2, the distance from dynamical isometry.
      log_determinant: sum of log s^2, that is log det J J^T.

    Example:
      >>> summarize(np.array([[2.0, 1.0]]), resolution=1e-6).pooled.condition
      np.float64(2.0)
    """

    mean: Any
    std: Any
    max: Any
    min: Any
    condition: Any
    quantiles: Any
    isometry_gap: Any
    log_determinant: Any


class Spectrum(NamedTuple):
    """Singular values of n examples' Jacobians, r = min(K, D) each, and what they say.

    Attributes:
      values: float64 (n, r), descending. NaN where a value is below ``resolution`` times the largest of its example.
        Such a value can't be told from rounding.
      rank: int (n,), how many of each example's values are resolved (the numerical rank).
      unresolved: int (n,), how many are not.
      per_example: ``Statistics`` of each example, (n,).
      pooled: ``Statistics`` of all values as one set. Its log-determinant is the mean of the examples': where ranks
        differ, these are sums of different lengths, so compare them at equal rank.
      means: means of the examples' statistics, over the examples that have one. A dead one has no condition number.
      errors: standard errors of ``means``. Of pooled statistics only mean, isometry gap and log-determinant have one.
      resolution: see ``values``.
      at: probabilities of the quantiles.

    Example:
      >>> found = summarize(np.array([[2.0, 1.0], [2.0, 0.0]]), resolution=1e-6)
      >>> found.rank.tolist(), found.unresolved.tolist()
      ([2, 1], [0, 1])
    """

    values: np.ndarray
    rank: np.ndarray
    unresolved: np.ndarray
    per_example: Statistics
    pooled: Statistics
    means: Statistics
    errors: Statistics
    resolution: float
    at: tuple[float, ...]


def spectrum(
    apply: passes.Apply,
    batches: jax.Array | np.ndarray | Iterable[jax.Array | np.ndarray],
    *,
    outputs: Sequence[int] | None = None,
    chunk: int | None = None,
    method: singular_values.Method = "auto",
    quantiles: Sequence[float] = QUANTILES,
    resolution: float | None = None,
    available: int | None = None,
    check: bool = True,
) -> Spectrum:
    """Exact spectrum of a network's Jacobian over a data set, with error bars.

    A stream is read once. Of each batch only its n x min(K, D) singular values are kept. ``apply`` is compiled once per
    batch shape.

    Args:
        apply, outputs, chunk, method, available: as for ``jacobian_singular_values``.
        batches: one array ``(n, ...)``, or an iterable of arrays.
        quantiles: probabilities.
        resolution: share of an example's largest value below which a value counts as unresolved. By default that of the
            method under the coarsest format that the network computes in.
        check: look in the first batch for examples that depend on one another.

    Returns:
        A ``Spectrum``, on the host.

    Raises:
        ValueError: for bad input, no examples, weights (of a ``Partial``, named) or Jacobians not finite, and
            inside a trace.

    Example:
        >>> found = spectrum(Partial(jnp.multiply, jnp.array([[1.0, 4.0]])), [jnp.ones((2, 2)), jnp.ones((1, 2))])
        >>> found.values.shape, float(found.means.mean)
        ((3, 2), 2.5)
    """
    singular_values.check_method(method)
    _check_quantiles(quantiles)
    checks.check_network(apply)
    checks.check_share("resolution", resolution)
    network, share = passes.passes(apply), resolution
    found: list[np.ndarray] = []
    for x in (batches,) if hasattr(batches, "ndim") else batches:
        if isinstance(x, tuple | list | dict):
            raise ValueError(
                f"a batch is a {type(x).__name__}; a spectrum needs the images alone: give (images for images, labels "
                "in loader), or what your loader calls them"
            )
        x = jnp.asarray(x)
        if check and not found:
            checks.check_independent(apply, x)
        values = _on_host(jacobian.values(network, x, outputs, chunk, method, available))
        before = sum(len(rows) for rows in found)
        checks.check_measured(values, apply, "Jacobian", before + np.arange(len(values)))
        if found and values.shape[1] != found[0].shape[1]:
            raise ValueError(f"batches hold inputs of different shapes, now {x.shape}; a spectrum needs one")
        found.append(values)
        if share is None:  # of the coarsest format that the network computes in
            shapes = passes.abstract(network, x, passes.wanted(network, x, outputs), narrow=True)
            seen = singular_values.coarsest([x, *jax.tree.leaves((shapes.made, shapes.entered))])
            share = singular_values.resolution(method, seen)
    if not found or share is None:
        raise ValueError("batches holds no examples; a spectrum needs at least one")
    return summarize(np.concatenate(found), resolution=share, quantiles=quantiles)


def summarize(values: np.ndarray, *, resolution: float, quantiles: Sequence[float] = QUANTILES) -> Spectrum:
    """The spectrum of singular values that are known already, such as those of a compiled program.

    Args:
        values: ``(n, r)``, descending.
        resolution: share of an example's largest value below which one counts as unresolved, see
            ``singular_values.resolution``.
        quantiles: probabilities.

    Returns:
        A ``Spectrum``, on the host.

    Raises:
        ValueError: for values not ``(n, r)``, empty, not finite or traced, a resolution or quantile outside [0, 1].

    Example:
        >>> float(summarize(np.array([[2.0, 1.0]]), resolution=1e-6).pooled.mean)
        1.5
    """
    checks.check_share("resolution", resolution)
    values = _on_host(values)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"values have shape {values.shape}; a spectrum needs (examples, values), not empty")
    checks.check_measured(values, None, "Jacobian")
    _check_quantiles(quantiles)
    resolved = (values > resolution * values[:, :1]) & (values > 0)
    values, rank = np.where(resolved, values, np.nan), resolved.sum(1)
    each = _per_example(values, quantiles)
    means, errors = (Statistics(*found) for found in zip(*map(_mean_and_error, each), strict=True))
    pooled = Statistics(*(field[0] for field in _per_example(values.reshape(1, -1), quantiles)))
    pooled = pooled._replace(log_determinant=means.log_determinant)
    missing = values.shape[1] - rank
    return Spectrum(values, rank, missing, each, pooled, means, errors, float(resolution), tuple(quantiles))


def _per_example(values: np.ndarray, quantiles: Sequence[float]) -> Statistics:
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


def _mean_and_error(field: np.ndarray) -> tuple[Any, Any]:
    """Mean over the examples that have a value, NaN where none has. Its standard error, NaN for fewer than two."""
    known = np.isfinite(field)
    count = known.sum(0)
    mean = np.where(count > 0, np.where(known, field, 0.0).sum(0) / np.maximum(count, 1), np.nan)
    squares = (np.where(known, field - mean, 0.0) ** 2).sum(0)
    error = np.where(count > 1, (squares / np.maximum(count - 1, 1) / np.maximum(count, 1)) ** 0.5, np.nan)
    return mean[()], error[()]


def _on_host(values: Any) -> np.ndarray:
    if isinstance(values, jax.core.Tracer):
        raise ValueError(
            "a spectrum is described on the host, outside jit and vmap: inside them take jacobian_singular_values, and "
            "give its result to summarize outside"
        )
    return np.asarray(values, np.float64)


def _check_quantiles(quantiles: Sequence[float]) -> None:
    if not isinstance(quantiles, Sequence | np.ndarray):
        raise ValueError(
            f"quantiles is {quantiles!r}; it needs a list of probabilities, such as ({quantiles},)"
        )
    if wrong := [q for q in quantiles if not 0 <= q <= 1]:
        raise ValueError(f"quantile {wrong[0]} is not in [0, 1]")
