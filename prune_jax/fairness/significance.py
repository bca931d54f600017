"""Welch's two-sided t-test from runs or from printed mean, std and n, and Holm's correction. Never a NaN."""

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtr


@dataclass(frozen=True)
class Sample:
    """Mean, sample standard deviation (n - 1 in the denominator) and number of runs. None is unstated."""

    mean: float
    std: float | None = None
    n: int | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Sample":
        """Summary of runs. The std of a single run is None, not zero. ValueError when there are none."""
        if not len(values):
            raise ValueError("a sample needs at least one run")
        runs = tuple(float(value) for value in values)
        return cls(*_mean_and_std(runs), len(runs))

    def __str__(self) -> str:
        std = "" if self.std is None else f" ± {self.std:.2f}"
        return f"{self.mean:.2f}{std} (n={'unstated' if self.n is None else self.n})"


@functools.lru_cache(maxsize=4096)  # a memo of a pure function: a ranking asks for each run's again and again
def _mean_and_std(runs: tuple[float, ...]) -> tuple[float, float | None]:
    # statistics works in exact fractions: equal runs give a std of exactly 0, not 1e-17.
    return statistics.mean(runs), statistics.stdev(runs) if len(runs) > 1 else None


@dataclass(frozen=True)
class Welch:
    """``difference`` of means (a - b), and t, degrees of freedom and two-sided p. Else None and ``why_not``."""

    difference: float
    t: float | None = None
    df: float | None = None
    p: float | None = None
    why_not: str | None = None


def welch(a: Sample | Sequence[float], b: Sample | Sequence[float]) -> Welch:
    """Test that two means differ, without assuming equal variances (Welch-Satterthwaite df).

    The paper names no test. Welch at 0.05 on sample stds with n = 3 reproduces its claims on Table 4. With n < 2 on a
    side, an unstated std or n, or no spread at all, p is None and ``why_not`` says so.
    """
    a, b = (side if isinstance(side, Sample) else Sample.of(side) for side in (a, b))
    difference, why_not = a.mean - b.mean, _untestable(a, b)
    if why_not or a.std is None or b.std is None or a.n is None or b.n is None:
        return Welch(difference, why_not=why_not)
    va, vb = a.std**2 / a.n, b.std**2 / b.n
    t = difference / math.sqrt(va + vb)
    df = (va + vb) ** 2 / (va**2 / (a.n - 1) + vb**2 / (b.n - 1))
    return Welch(difference, t, df, float(2.0 * stdtr(df, -abs(t))))


def holm(ps: Sequence[float | None]) -> tuple[float | None, ...]:
    """Correct the p-values of several tests for their number, by Holm's step-down.

    Of m tests the k-th smallest p, k from 1, is multiplied by m - k + 1. It is never below the corrected one
    before it, and never above 1. A test is then significant at level a where its corrected p is below a. The
    chance of one false claim or more is at most a, however the tests depend on each other.

    Args:
        ps: the p of each test, in any order. None is a test that could not be made. It is not counted.

    Returns:
        The corrected p of each, in the same order. None stays None.

    Raises:
        ValueError: a p is no number from 0 to 1.

    Example:
        >>> holm([0.04, 0.01, None, 0.03])
        (0.06, 0.03, None, 0.06)

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979), 65-70.
    """
    for p in ps:
        if p is not None and not 0.0 <= p <= 1.0:
            raise ValueError(
                f"a p-value is a number from 0 to 1, got {p!r}; None says that it was not tested"
            )
    order = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    corrected: list[float | None] = [None] * len(ps)
    highest = 0.0
    for rank, (p, place) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        corrected[place] = highest
    return tuple(corrected)


def _untestable(a: Sample, b: Sample) -> str | None:
    if any(side.n is not None and side.n < 2 for side in (a, b)):
        return f"n too small (n={a.n or 'unstated'} and n={b.n or 'unstated'}, a test needs 2 runs a side)"
    missing = [name for name in ("std", "n") if getattr(a, name) is None or getattr(b, name) is None]
    if missing:
        return f"{' and '.join(missing)} unstated"
    if a.std == 0.0 and b.std == 0.0:
        return "no spread in either sample"
    return None
