"""Trainability accuracy: how fast a network learns while its first learning rate lasts."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from prune_jax.schedules import LRSchedule

Run = tuple[Sequence[float], LRSchedule]


class TrainabilityComparison(NamedTuple):
    """Trainability accuracies of two runs under one schedule; ``difference`` is first minus second."""

    first: float
    second: float
    difference: float


def trainability_accuracy(accuracies: Sequence[float], schedule: LRSchedule | str) -> float:
    """Mean test accuracy over the N epochs of the first LR stage, in the unit of ``accuracies``.

    ``accuracies[i]`` is the test accuracy after epoch ``i + 1`` of retraining; a ``schedule`` in the paper's notation,
    '0:1e-2,60:1e-3', is taken to last as long as they do. Values are comparable only between runs under the same
    schedule (``compare_trainability`` sees to that). Source: arXiv 2301.05219 §5.1, Eq. (1), taken literally: the
    printed column of Table 5 does not follow it (offsets of +10 and +20 on the published curves). Raises ValueError
    when fewer than N accuracies are given or one of them is not finite.
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
    """Trainability accuracies of two runs, each ``(accuracies, schedule)``, and their difference.

    Eq. (1) depends on the learning rate and on N, so a difference says something about the networks only
    when the schedules are equal (arXiv 2301.05219 §5.1). Raises ValueError naming both when they differ.
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
    """Epochs until the test accuracy first reaches ``target`` (>=), counted from 1; None if it never does.

    ``accuracies[i]`` is the accuracy after epoch ``i + 1``, in the unit of ``target``. Reaching it once
    counts, whatever follows. Raises ValueError for an empty curve or a number that is not finite.
    """
    return _first_to_reach(enumerate(accuracies, start=1), target)


def equivalent_epochs(curve_small_lr: Mapping[int, float] | Sequence[float], target: float) -> int | None:
    """Epochs that a small LR needs to reach the ``target`` accuracy of a large one: Table 5's "+N epochs".

    ``curve_small_lr`` maps extra epochs to the final accuracy of the run that was extended by them, 0 for
    the unextended one; the paper puts them all into the first LR stage (``LRSchedule.extend``). A plain
    sequence is one run's accuracy after epochs 1, 2, ..., and the answer then counts all its epochs.
    Gives the smallest measured N at which the target is reached, without interpolation: the true one lies
    above the measured N before it. None if no measured N reaches it, which is no statement about longer
    runs. Source: arXiv 2301.05219 §5.2, Table 5. Raises ValueError as ``epochs_to``, and for an N that is
    not a whole number >= 0.
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
