"""What goes back to pretraining: ``config.rewind`` its weights, ``config.retrain.schedule`` its learning rates."""

import copy
import itertools
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.config.own_criterion import compensates
from prune_jax.experiment.specs import DataSpec, Initialise, ModelSpec, Pretrain, Rewind, Sparsify, Stage
from prune_jax.schedules import LRSchedule, is_recipe, retraining


def random_base(config: ConfigDict, images: DataSpec, model: ModelSpec) -> Initialise:
    """The stage of random weights. Raises ValueError beside a base model from a file."""
    if config.base.checkpoint:
        raise ValueError(
            f"base.checkpoint is {config.base.checkpoint!r}, and the chain begins with random weights: choose "
            "pipeline 'prune', or leave base.checkpoint empty"
        )
    return Initialise(images, model)


def spec_of(config: ConfigDict) -> Rewind:
    """The stage that ``config.rewind`` describes. Raises ValueError."""
    to = config.rewind.to
    if not isinstance(to, int) or isinstance(to, bool) or to < 0:
        raise ValueError(
            f"rewind.to is {to!r}; allowed: an epoch of pretraining, or 0, the random weights that it began from"
        )
    return Rewind(to)


def refuse_beyond(chain: Sequence[Stage]) -> None:
    """Raise ValueError for a rewind to weights that the chain's base model never had."""
    head = chain[0]
    for place, spec in enumerate(chain):
        if not isinstance(spec, Rewind) or (isinstance(head, Initialise) and spec.to == 0):
            continue
        if not isinstance(head, Pretrain):
            what = "random weights" if isinstance(head, Initialise) else "a base model from a file"
            way = "rewind to 0" if isinstance(head, Initialise) else "leave base.checkpoint empty"
            raise ValueError(
                f"rewind.to is {spec.to} in stage {place} of the chain, which begins with {what} and so has no "
                f"pretraining to go back to: {way}, or leave the rewind out"
            )
        if spec.to > head.train.epochs:
            raise ValueError(
                f"rewind.to is {spec.to} in stage {place} of the chain, and pretrain.epochs {head.train.epochs}: "
                f"allowed: 0 to {head.train.epochs}"
            )


def refuse_undone(chain: Sequence[Stage]) -> None:
    """Raise ValueError for a recovery, or a compensation, whose weights a rewind right after it would take away."""
    for place, (before, spec) in enumerate(itertools.pairwise(chain), 1):
        if not (isinstance(spec, Rewind) and isinstance(before, Sparsify)):
            continue
        undone = f"stage {place} of the chain, a rewind to epoch {spec.to}, would undo:"
        if before.recovery != "none":
            raise ValueError(
                f"sparsify.recovery is {before.recovery!r}, which {undone} choose recovery 'none', or leave the rewind "
                "out"
            )
        if compensates(before):
            raise ValueError(
                f"sparsify.criterion is {before.criterion!r}, which changes the weights that stay, and {undone} set "
                "sparsify.compensate to False, or leave the rewind out"
            )


def scheduled(config: ConfigDict, kind: str, head: Stage | None) -> ConfigDict:
    """The config with a retraining's schedule spelt out, where it is told by the pretraining's. Raises ValueError."""
    section: Any = config.get(kind)
    if kind != "retrain" or not is_recipe(section.schedule):
        return config
    before = None
    if isinstance(head, Pretrain):
        before = LRSchedule.parse(head.train.schedule, head.train.epochs)
    try:
        schedule = retraining(section.schedule, section.epochs, before)
    except ValueError as error:
        raise ValueError(f"retrain.schedule (with retrain.epochs={section.epochs}): {error}") from error
    spelt = copy.deepcopy(config)
    spelt.retrain.schedule = str(schedule)
    return spelt
