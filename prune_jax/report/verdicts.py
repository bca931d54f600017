"""The verdict on a claimed sign: a difference of two runs, Welch's p, and what they allow to say."""

from collections.abc import Sequence
from typing import NamedTuple

from prune_jax.fairness import RunRecord, holm, welch

HOLDS, FAILS, OPEN = "holds", "does not", "can't tell"
LEVEL = 0.05


class Effect(NamedTuple):
    """How far one run is above another.

    Attributes:
        difference: of the mean accuracies, in points.
        p: of Welch's two-sided test. None where none can be made.
    """

    difference: float
    p: float | None


def effects(pairs: Sequence[tuple[RunRecord, RunRecord]]) -> list[Effect]:
    """The first minus the second of each pair. Holm's step-down corrects p for the number of pairs."""
    tests = [welch(a.accuracies, b.accuracies) for a, b in pairs]
    corrected = holm([test.p for test in tests])
    return [Effect(test.difference, p) for test, p in zip(tests, corrected, strict=True)]


def verdict(effect: Effect, sign: int) -> str:
    """Whether a difference of this ``sign``, 1 or -1, shows: 'holds', 'does not' for the opposite, or 'can't tell'.

    >>> verdict(Effect(2.0, 0.01), 1), verdict(Effect(-2.0, 0.01), 1), verdict(Effect(2.0, 0.2), 1)
    ('holds', 'does not', "can't tell")
    """
    if effect.p is None or effect.p >= LEVEL or effect.difference == 0:
        return OPEN
    return HOLDS if effect.difference * sign > 0 else FAILS
