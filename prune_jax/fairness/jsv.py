"""Jacobian singular values (JSVs) of one network as a record keeps them: statistics and a histogram."""

from dataclasses import dataclass
from typing import ClassVar

BINS_PER_DECADE = 5


@dataclass(frozen=True)
class JSVSummary:
    """JSVs of the network's outputs by its inputs, pooled over ``examples`` inputs.

    The Jacobians themselves are never kept.

    ``mean_error`` is the standard error of ``mean`` over examples. ``unresolved`` values are those that the
    arithmetic can't tell from 0. ``minimum`` and ``condition`` (largest over smallest, mean over examples)
    are over the ``resolved`` ones. ``isometry_gap`` is the mean of (s - 1)^2. ``counts[i]`` resolved values
    lie in [10^((first_bin + i) / 5), 10^((first_bin + i + 1) / 5)), so histograms share their bins.
    """

    examples: int
    mean: float
    mean_error: float | None
    std: float | None
    maximum: float | None
    minimum: float | None
    condition: float | None
    resolved: int | None
    unresolved: int | None
    isometry_gap: float | None
    first_bin: int | None = None
    counts: tuple[float, ...] = ()
    RETIRED: ClassVar[tuple[str, ...]] = (
        "budget",
    )  # keys of older records that say nothing: it was always 0

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise ValueError(f"a spectrum needs at least 1 example, got {self.examples}")
        if bool(self.counts) != (self.first_bin is not None):
            raise ValueError("a spectrum's counts and its first_bin are stated together or not at all")

    def edges(self) -> tuple[float, ...]:
        """The bins' borders, one more than there are counts. Empty without counts."""
        if self.first_bin is None:
            return ()
        return tuple(10.0 ** ((self.first_bin + i) / BINS_PER_DECADE) for i in range(len(self.counts) + 1))
