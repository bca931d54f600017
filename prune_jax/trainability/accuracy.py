"""Trainability accuracy: how fast a network learns while its first learning rate lasts."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from prune_jax.schedules import LRSchedule

Run = tuple[Sequence[float], LRSchedule]


class TrainabilityComparison(NamedTuple):
    """Trainability accuracies of two runs under one schedule. ``difference`` is first minus second."""

    first: float
    second: float
    difference: float


def trainability_accuracy(accuracies: Sequence[float], schedule: LRSchedule | str) -> float:
    """Mean test accuracy over the N epochs of the first LR stage, in the unit of ``accuracies``.

    Two runs compare only under the same schedule (``compare_trainability``). The printed column of Table 5 does not
    follow Eq. (1): on the published curves it is off by +10 and +20.

    Args:
        accuracies: ``accuracies[i]`` is the test accuracy after epoch ``i + 1`` of retraining.
        schedule: in the paper's notation, '0:1e-2,60:1e-3', or parsed. Text is taken to last as long as ``accuracies``.

    Returns:
        A float.

    Raises:
        ValueError: for fewer than N accuracies, and for one that is not finite.

    Example:
        >>> trainability_accuracy([60.0, 70.0, 90.0], "0:1e-2,2:1e-3")
        65.0

    Source: arXiv 2301.05219 §5.1, Eq. (1), taken literally.
    """
    if isinstance(schedule, str):
        schedule = LRSchedule.parse(schedule, len(accuracies))
    stage = schedule.first_stage
    if len(accuracies) < stage:
        raise ValueError(
            f"trainability accuracy under {schedule} needs the {stage} epochs of its first LR stage, "
            f"got {len(accuracies)} accuracies"
        )
    first = np.asarray(accuracies[:stage], np.float64)
    if not np.isfinite(first).all():
        raise ValueError(f"accuracy after epoch {int(np.argmin(np.isfinite(first))) + 1} is not finite")
    return float(first.mean())


def compare_trainability(first: Run, second: Run) -> TrainabilityComparison:
    """Trainability accuracies of two runs, and their difference.

    Eq. (1) depends on the learning rate and on N. So a difference speaks of the networks only under equal schedules.

    Args:
        first: ``(accuracies, schedule)`` of a run.
        second: the same of another run.

    Returns:
        A ``TrainabilityComparison``.

    Raises:
        ValueError: for different schedules, naming both, and as ``trainability_accuracy``.

    Example:
        >>> schedule = LRSchedule.parse("0:1e-2,2:1e-3", epochs=3)
        >>> compare_trainability(([60, 70, 78], schedule), ([50, 62, 77], schedule)).difference
        9.0
    """
    (_, schedule), (_, other) = first, second
    if schedule != other:
        raise ValueError(
            f"trainability accuracies compare only under the same schedule; the first run has "
            f"'{schedule}' ({schedule.epochs} epochs), the second '{other}' ({other.epochs} epochs): "
            "retrain one of them under the other's"
        )
    one, two = trainability_accuracy(*first), trainability_accuracy(*second)
    return TrainabilityComparison(one, two, one - two)


def epochs_to(accuracies: Sequence[float], target: float) -> int | None:
    """Epochs until the test accuracy first reaches a target, counted from 1. Reaching it once counts.

    Args:
        accuracies: ``accuracies[i]`` is the accuracy after epoch ``i + 1``.
        target: an accuracy in the same unit. An equal one reaches it.

    Returns:
        The number of epochs. None if the target is never reached.

    Raises:
        ValueError: for an empty curve, or a number that is not finite.

    Example:
        >>> epochs_to([60, 70, 78], 70)
        2
    """
    return _first_to_reach(enumerate(accuracies, start=1), target)


def equivalent_epochs(curve_small_lr: Mapping[int, float] | Sequence[float], target: float) -> int | None:
    """Epochs that a small LR needs to reach what a large one ends at: Table 5's "+N epochs".

    The smallest measured N counts, without interpolation: the true one lies above the measured N before it.

    Args:
        curve_small_lr: extra epochs -> final accuracy of the run that was extended by them, 0 for the unextended
            one. The paper puts them all into the first LR stage (``LRSchedule.extend``). A plain sequence is one
            run's accuracies after epochs 1, 2, ..., and the answer then counts all its epochs.
        target: the accuracy to reach, in the same unit.

    Returns:
        N. None if no measured N reaches the target, which says nothing about longer runs.

    Raises:
        ValueError: as ``epochs_to``, and for an N that is not a whole number >= 0.

    Example:
        >>> equivalent_epochs({0: 77.64, 30: 79.12, 60: 79.59}, 79.57)
        60

    Source: arXiv 2301.05219 §5.2, Table 5.
    """
    if not isinstance(curve_small_lr, Mapping):
        return epochs_to(curve_small_lr, target)
    for extra in curve_small_lr:
        if isinstance(extra, bool) or not isinstance(extra, int | np.integer) or extra < 0:
            raise ValueError(f"extra epochs must be whole numbers >= 0, got {extra!r}")
    return _first_to_reach(sorted((int(n), value) for n, value in curve_small_lr.items()), target)


def _first_to_reach(curve: Iterable[tuple[int, float]], target: float) -> int | None:
    points = list(curve)
    if not points:
        raise ValueError("the curve is empty: give at least one accuracy")
    if not math.isfinite(target):
        raise ValueError(f"the target accuracy is {target}; it must be finite")
    broken = [epoch for epoch, value in points if not math.isfinite(value)]
    if broken:
        raise ValueError(f"accuracy after epoch {broken[0]} is not finite")
    return next((epoch for epoch, value in points if value >= target), None)
