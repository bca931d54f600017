"""When a rule's mask changes, and how many units go each time: worked out once, on the host, exactly."""

import math
from collections.abc import Sequence

import numpy as np

from prune_jax.pruning.granularity import NOISE
from prune_jax.pruning.mask_rules.units import gone_of


def turns_between(steps: int, interval: int, begin: int, end: int) -> np.ndarray:
    """The number of the turn at each step: every ``interval`` steps, after step ``begin`` until step ``end``.

    Args:
      steps: how many steps training has.
      interval: steps from one turn to the next, at least 1.
      begin: steps before the first interval. 0: the first turn comes with step ``interval``, the last of its interval.
      end: the last step at which there may be a turn, counted from 1.

    Returns:
      int32 ``(steps,)``, -1 where there is no turn.

    Raises:
      ValueError: no turn fits.

    Example:
      >>> turns_between(7, 3, 0, 7).tolist()
      [-1, -1, 0, -1, -1, 1, -1]
    """
    if interval < 1:
        raise ValueError(f"interval is {interval}; a mask changes every so many steps, at least 1")
    if begin + interval > min(end, steps):
        raise ValueError(
            f"interval is {interval} steps, and {max(min(end, steps) - begin, 0)} of the {steps} steps of training are "
            "open to changes of the mask: choose a shorter interval, or train longer"
        )
    turns = np.full(steps, -1, np.int32)
    at = np.arange(begin + interval, min(end, steps) + 1, interval) - 1
    turns[at] = np.arange(len(at))
    return turns


def turns_in(steps: int, interval: int, begin: float, end: float, *, before: bool = False) -> np.ndarray:
    """``turns_between`` for a begin and an end that are fractions of training. ``before``: the end itself is no turn.

    Raises ValueError.
    """
    for name, value in (("begin", begin), ("end", end)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; it is a fraction of training, from 0 to 1")
    return turns_between(steps, interval, step_at(begin, steps), step_at(end, steps) - before)


def step_at(fraction: float, steps: int) -> int:
    """The step, counted from 1, at which a fraction of training is done."""
    return math.floor(fraction * steps + NOISE)


def cubic(turns: int, ratio: float, initial: float = 0.0) -> np.ndarray:
    """GMP's ratios: ``s_f + (s_0 - s_f) (1 - t)^3`` at t = 1/n, 2/n, ... 1 of n turns.

    Args:
      turns: how many there are. A single one prunes all at once.
      ratio: s_f, after the last turn.
      initial: s_0, before the first.

    Returns:
      float64 ``(turns,)``.

    Source: Zhu & Gupta, arXiv 1710.01878, eq. (1).

    Example:
      >>> cubic(2, 0.8).tolist()
      [0.7000000000000001, 0.8]
    """
    t = np.arange(1, turns + 1) / turns
    return ratio + (initial - ratio) * (1.0 - t) ** 3


def cosine(turns: np.ndarray, drop: float, last: int) -> np.ndarray:
    """RigL's drop fraction at each turn: ``drop / 2 * (1 + cos(pi t / T))``.

    Args:
      turns: as ``turns_between`` gives them.
      drop: the fraction at t = 0.
      last: T, the step at which it is 0. Steps are counted from 1.

    Returns:
      float64, one for each turn.

    Source: Evci et al., arXiv 1911.11134, §3 (2).

    Example:
      >>> cosine(np.array([-1, 0, -1, -1]), 0.3, 4).round(6).tolist()
      [0.15]
    """
    at = np.flatnonzero(turns >= 0) + 1
    return drop / 2 * (1.0 + np.cos(np.pi * at / last))


def in_force(turns: np.ndarray, alive: np.ndarray, *, free: bool = False) -> np.ndarray:
    """The fraction of a kernel's weights that the forward pass uses at each step.

    Args:
      turns: as ``turns_between`` gives them.
      alive: ``(turns + 1,)``: the fraction that is alive from the start, and after each turn.
      free: whether pruned weights train on, so that they are zeros at the step after a turn alone.

    Returns:
      float64 ``(steps,)``.

    Example:
      >>> in_force(np.array([-1, 0, -1]), np.array([1.0, 0.5])).tolist()
      [1.0, 1.0, 0.5]
    """
    changed = turns >= 0
    now = alive[np.cumsum(changed) - changed]
    if not free:
        return now
    return np.where(np.concatenate([[False], changed[:-1]]), now, 1.0)


def counts(ratios: Sequence[np.ndarray], units: Sequence[int]) -> tuple[np.ndarray, ...]:
    """For each kernel int32 ``(turns,)``: how many of its units are gone after each turn."""
    return tuple(
        np.asarray([gone_of(float(ratio), size) for ratio in mine], np.int32)
        for mine, size in zip(ratios, units, strict=True)
    )


def exchanged(fractions: np.ndarray, alive: Sequence[int]) -> tuple[np.ndarray, ...]:
    """For each kernel int32 ``(turns,)``: how many of its living weights change places at each turn.

    Rounded down, so that a fraction of few weights may be none.
    """
    return tuple(np.floor(fractions * size + NOISE).astype(np.int32) for size in alive)
