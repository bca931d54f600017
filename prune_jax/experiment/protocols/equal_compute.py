"""Epochs that bring runs to the same training compute, where a run is sparse or has a teacher."""

import copy
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


def epochs_at(config: ConfigDict, own: Mapping[str, Any], budget: float) -> int:
    """The epochs of a run under a mask rule whose compute is nearest to that of ``budget`` dense epochs.

    Args:
        config: the whole one.
        own: what the run changes, the keys of ``mask_rule`` among it.
        budget: epochs of the dense network.

    Returns:
        Whole epochs, at least 1. Multiplications by masked weights don't count, as in SX-B.

    Raises:
        ValueError: as the config's mask rule.
    """
    changed = override(config, dict(own))
    model = speedups.spec_of(changed)
    masking = masking_of(changed, model)
    epoch = steps_per_epoch(open_dataset(changed).train_size, config.optimizer.batch_size)
    dense = networks.cost_of(model).macs

    def compute(epochs: int) -> float:
        macs = macs_of(MaskPlan(masking, epochs * epoch, epoch), model)
        return epochs * (macs.masked + macs.extra / FORWARD_PASSES) / dense

    epochs = max(2, round(budget))  # a rule needs an epoch to change in, and one after it
    while compute(epochs + 1) <= budget:
        epochs += 1
    return min((epochs, epochs + 1), key=lambda each: abs(compute(each) - budget))


def epochs_without_teacher(config: ConfigDict, ratio: float, epochs: int) -> int:
    """How long a small network trains alone at the compute of ``epochs`` with the dense one as its teacher.

    The teacher's forward pass comes to the three passes that a step of the small network takes.
    """
    changed = copy.deepcopy(config)
    changed.sparsify.ratio = ratio
    model = speedups.spec_of(changed)
    pairs = networks.uniform_ratios(model, tuple(changed.sparsify.layers), ratio)
    small = networks.cost_of(model, networks.widths_of(model, pairs)).macs
    dense = networks.cost_of(model).macs
    return round(epochs * (small + dense / FORWARD_PASSES) / small)


def decayed(epochs: int, rates: Sequence[float]) -> str:
    """An LR schedule of up to three rates: for a half, a quarter and a quarter of the epochs.

    >>> decayed(8, (1e-2, 1e-3, 1e-4))
    '0:0.01,4:0.001,6:0.0001'
    """
    starts = dict(
        zip((0, epochs // 2, epochs * 3 // 4), rates, strict=False)
    )  # of equal starts the later rate counts
    return ",".join(f"{start}:{rate:g}" for start, rate in starts.items())
