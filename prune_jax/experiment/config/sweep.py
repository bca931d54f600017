"""The runs of a sweep: a config, changed by each of its entries."""

from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.arm import Arm
from prune_jax.experiment.config.chain import override as override
from prune_jax.experiment.config.dataset import AnyDataset
from prune_jax.experiment.config.resolve import resolve

Overrides = dict[str, Any]
Sweep = Callable[[ConfigDict], Sequence[Overrides]]


def plan_arms(config: ConfigDict, sweep: Sweep | None, dataset: AnyDataset) -> tuple[Arm, ...]:
    """Every run of a config: one per entry of its ``sweep``, or the config itself without one.

    Raises ValueError for an override of a key that the config lacks, and as ``resolve``.
    """
    arms = []
    for overrides in sweep(config) if sweep else [{}]:
        arms.append(resolve(override(config, overrides), dataset))
    return tuple(arms)
