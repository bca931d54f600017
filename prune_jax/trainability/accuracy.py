"""Trainability accuracy: how fast a network learns while its first learning rate lasts."""

from collections.abc import Sequence

import numpy as np

from prune_jax.schedules import LRSchedule


def trainability_accuracy(accuracies: Sequence[float], schedule: LRSchedule) -> float:
    """Mean test accuracy over the N epochs of the first LR stage, in the unit of ``accuracies``.

    ``accuracies[i]`` is the test accuracy after epoch ``i + 1`` of retraining. Values are comparable only
    between runs under the same schedule. Source: arXiv 2301.05219 §5.1, Eq. (1), taken literally: the
    printed column of Table 5 does not follow it (offsets of +10 and +20 on the published curves). Raises
    ValueError when fewer than N accuracies are given or one of them is not finite.
    """
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
