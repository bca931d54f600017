"""Mystery 1's grid: one retraining per pruning ratio, recovery, initial LR and number of epochs.

Two of the recoveries are controls of OrthP. 'reinit' is the small network at random weights of the same law, so
nothing is inherited. 'rescale' multiplies each pruned kernel by one number: directions are inherited, no isometry is
made.
"""

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from prune_jax.schedules import LRSchedule, halving

# Recovery -> its name in a run's label.
NAMES: Mapping[str, str] = MappingProxyType(
    {"none": "L1", "orthp": "L1+OrthP", "rescale": "L1+rescale", "reinit": "reinit"}
)
# The report of such a grid: the gap between the LRs, and what the Jacobian does meanwhile.
SECTIONS = (
    "controls",
    "base",
    "accuracy_vs_epochs",
    "lr_gap",
    "jsv_along_retraining",
    "accuracy_along_retraining",
    "accuracy",
)


def grid(config: ConfigDict, epochs: Sequence[int]) -> list[dict[str, Any]]:
    """A sweep over ``ratios``, ``recoveries``, ``retrain_lrs`` and ``epochs``. The LR falls to ``final_lr``."""
    runs = []
    for ratio, recovery, lr, count in itertools.product(
        config.ratios, config.recoveries, config.retrain_lrs, epochs
    ):
        runs.append(
            {
                "label": f"{NAMES[recovery]} {ratio:g}, LR {lr:g}, {count} epochs",
                "sparsify.ratio": ratio,
                "sparsify.recovery": recovery,
                "retrain.epochs": count,
                "retrain.schedule": str(halved(count, lr, config.final_lr)),
            }
        )
    return runs


def extended(config: ConfigDict) -> list[dict[str, Any]]:
    """A sweep over ``extensions``, (ratio, initial LR, extra epochs): the pruned network retrained for longer.

    The extra epochs go into the first LR stage of ``extended_from`` epochs (Table 5, §5.2).
    """
    runs = []
    for ratio, lr, extra in config.extensions:
        schedule = halved(config.extended_from, lr, config.final_lr).extend(extra)
        runs.append(
            {
                "label": f"L1 {ratio:g}, LR {lr:g}, {config.extended_from} epochs (+{extra})",
                "sparsify.ratio": ratio,
                "retrain.epochs": schedule.epochs,
                "retrain.schedule": str(schedule),
            }
        )
    return runs


def halved(epochs: int, lr: float, final_lr: float) -> LRSchedule:
    """The halving rule (Appendix A) with as many LR drops as leave every stage an epoch."""
    room = epochs.bit_length() - 1
    return halving(epochs, lr, max(final_lr, float(f"{lr * 10.0**-room:.6g}")))
