"""Epochs that bring runs to the same training compute, where a run is sparse or has a teacher."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment import networks
from prune_jax.experiment.config.chain import override
from prune_jax.experiment.config.dataset import open_dataset
from prune_jax.experiment.config.mask_rule import masking_of
from prune_jax.experiment.networks import steps_per_epoch
from prune_jax.experiment.protocols import speedups
from prune_jax.experiment.training.masking import MaskPlan, macs_of
from prune_jax.fairness.chain import FORWARD_PASSES

CLOSE = 0.01  # relative difference of computes that count as equal here. SX-B takes 2 %


def steps_of(config: ConfigDict) -> int:
    """Steps of an epoch on the config's data set, which is opened for it."""
    return steps_per_epoch(open_dataset(config).train_size, config.optimizer.batch_size)


def epochs_at(config: ConfigDict, own: Mapping[str, Any], budget: float, steps: int) -> int:
    """The epochs of a run under a mask rule whose compute is nearest to that of ``budget`` dense epochs.

    Args:
        config: the whole one.
        own: what the run changes, the keys of ``mask_rule`` among it.
        budget: epochs of the dense network.
        steps: of one epoch.

    Returns:
        Whole epochs, at least 1. Multiplications by masked weights don't count, as in SX-B.

    Raises:
        ValueError: as the config's mask rule.
    """
    changed = override(config, dict(own))
    model = speedups.spec_of(changed)
    masking = masking_of(changed, model)
    dense = networks.cost_of(model).macs

    def compute(epochs: int) -> float:
        macs = macs_of(MaskPlan(masking, epochs * steps, steps), model)
        return epochs * (macs.masked + macs.extra / FORWARD_PASSES) / dense

    epochs = max(2, round(budget))  # a rule needs an epoch to change in, and one after it
    while compute(epochs + 1) <= budget:
        epochs += 1
    return min((epochs, epochs + 1), key=lambda each: abs(compute(each) - budget))


def with_and_without_teacher(config: ConfigDict, ratio: float, least: int) -> tuple[int, int]:
    """Epochs of a small network's training under the dense one as its teacher, and of as much compute alone.

    A teacher's forward pass comes to the three passes that a step of the small network takes.

    Args:
        config: the whole one.
        ratio: the pruning ratio of all layers that it names.
        least: epochs that training with a teacher lasts at least.

    Returns:
        (with, without): the shortest ones whose computes differ by 1 % or less.
    """
    model = speedups.spec_of(config)
    pairs = networks.uniform_ratios(model, tuple(config.sparsify.layers), ratio)
    small = networks.cost_of(model, networks.widths_of(model, pairs)).macs
    longer = 1.0 + networks.cost_of(model).macs / FORWARD_PASSES / small
    taught = least
    while abs(round(taught * longer) / (taught * longer) - 1.0) > CLOSE:
        taught += 1
    return taught, round(taught * longer)


def decayed(epochs: int, rates: Sequence[float]) -> str:
    """An LR schedule of up to three rates: for a half, a quarter and a quarter of the epochs.

    >>> decayed(8, (1e-2, 1e-3, 1e-4))
    '0:0.01,4:0.001,6:0.0001'
    """
    starts = dict(
        zip((0, epochs // 2, epochs * 3 // 4), rates, strict=False)
    )  # of equal starts the later rate counts
    return ",".join(f"{start}:{rate:g}" for start, rate in starts.items())
