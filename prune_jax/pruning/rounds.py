"""Pruning in rounds: how much of the dense network is gone, or how much faster it is, after each round.

Iterative pruning cuts and retrains in turn (Han et al., NeurIPS 2015). All numbers here are
cumulative: they speak of the dense network, never of the one that the round before left.
"""

from collections.abc import Callable, Mapping
from numbers import Integral
from types import MappingProxyType
from typing import NamedTuple


class Schedule(NamedTuple):
    """How the rounds divide what is to go: two functions ``(target, k, n)`` of round k of n, k from 1 to n.

    Attributes:
      ratio: the pruning ratio after the round, where ``target`` is that after the last.
      speedup: the speedup over the dense network after the round.
    """

    ratio: Callable[[float, int, int], float]
    speedup: Callable[[float, int, int], float]


SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {
        "one-shot": Schedule(lambda ratio, k, n: ratio, lambda speedup, k, n: speedup),
        "linear": Schedule(
            lambda ratio, k, n: ratio * k / n, lambda speedup, k, n: 1 + (speedup - 1) * k / n
        ),
        "geometric": Schedule(
            lambda ratio, k, n: 1 - (1 - ratio) ** (k / n), lambda speedup, k, n: speedup ** (k / n)
        ),
    }
)


def cumulative_ratios(ratio: float, rounds: int, schedule: str) -> tuple[float, ...]:
    """The pruning ratio after each round, as a fraction of the dense network.

    Args:
      ratio: the fraction removed after the last round, in [0, 1].
      rounds: how many rounds there are, at least 1.
      schedule: 'linear' removes the same amount each round, ``ratio * k / n`` after round k of n.
        'geometric' removes the same fraction of what is left, ``1 - (1 - ratio) ** (k / n)``.
        'one-shot' removes all in the first round and nothing after it: the control that is trained as
        long as the others.

    Returns:
      One ratio per round. They never fall, and the last is exactly ``ratio``.

    Raises:
      ValueError: an argument is outside its range.

    Example:
      >>> cumulative_ratios(0.75, 2, "geometric")
      (0.5, 0.75)
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"a pruning ratio is the fraction removed, in [0, 1], not {ratio}")
    return _along(ratio, rounds, _found(rounds, schedule).ratio)


def cumulative_speedups(speedup: float, rounds: int, schedule: str) -> tuple[float, ...]:
    """The speedup over the dense network after each round (MACs of the dense network over its own).

    Args:
      speedup: the speedup after the last round, at least 1 and finite.
      rounds: how many rounds there are, at least 1.
      schedule: 'linear' is ``1 + (speedup - 1) * k / n`` after round k of n, 'geometric' is
        ``speedup ** (k / n)``, 'one-shot' is ``speedup`` from the first round on.

    Returns:
      One speedup per round. They never fall, and the last is exactly ``speedup``.

    Raises:
      ValueError: an argument is outside its range.
    """
    if not 1 <= speedup < float("inf"):
        raise ValueError(f"a target speedup is at least 1 and finite, not {speedup}")
    return _along(speedup, rounds, _found(rounds, schedule).speedup)


def _found(rounds: int, schedule: str) -> Schedule:
    if isinstance(rounds, bool) or not isinstance(rounds, Integral) or rounds < 1:
        raise ValueError(f"rounds is {rounds!r}; it must be a whole number of at least 1")
    if schedule not in SCHEDULES:
        raise ValueError(f"the schedule of rounds is {schedule!r}; choose one of {', '.join(SCHEDULES)}")
    return SCHEDULES[schedule]


def _along(target: float, rounds: int, after: Callable[[float, int, int], float]) -> tuple[float, ...]:
    # min: rounding may overshoot by one digit
    return (*(min(after(target, k, rounds), target) for k in range(1, rounds)), target)
