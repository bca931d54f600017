"""Rows of the paper's Tables 6 and 7: scratch and L1-norm pruning, each under step and cosine LR (App. C)."""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import shortening
from prune_jax.experiment.protocols.table4 import Row, overrides
from prune_jax.schedules import LRSchedule, cosine, halving, resize


def rows(config: ConfigDict) -> tuple[Row, ...]:
    """The six rows: scratch first, then pruned ones by schedule and initial LR.

    Scratch follows ``config.dense``'s schedule and length, which the dense base model has too. Step schedules of the
    retraining follow the halving rule without a cap. For LR 0.001 that is inferred, as the paper prints none. Cosine
    ends at the step schedule's last LR, T_max is all epochs: inferred.
    """
    by = shortening.divisor(config)
    base, step = shortening.schedule(config, "dense"), shortening.schedule(config, "dense", by)
    smooth = cosine(step.epochs, base.at(0), base.at(base.epochs - 1))
    made = [
        Row(f"Scratch ({name} LR)", "scratch", None, s) for name, s in (("Step", step), ("Cosine", smooth))
    ]
    length = shortening.epochs(config.retrain_epochs, by)
    for name in ("Step", "Cosine"):
        for lr in config.retrain_lrs:
            made.append(Row(f"L1 ({name} LR {lr:g})", "", step, _retraining(config, name, lr, length)))
    return tuple(made)


def entries(config: ConfigDict) -> list[dict[str, Any]]:
    """A sweep's entries: every row at every ratio."""
    return [overrides(row, ratio, config.shorten) for ratio in config.ratios for row in rows(config)]


def entries_of_networks(config: ConfigDict) -> list[dict[str, Any]]:
    """The same for each of ``config.networks``: (name in the catalog, LR schedule of its dense training)."""
    runs = []
    for name, schedule in config.networks:
        own = config.copy_and_resolve_references()
        own.dense.schedule = schedule
        runs += [entry | {"label": f"{name}: {entry['label']}", "model.name": name} for entry in entries(own)]
    return runs


def _retraining(config: ConfigDict, name: str, lr: float, epochs: int) -> LRSchedule:
    if name == "Cosine":
        return cosine(epochs, lr, config.final_lr)
    return resize(halving(config.retrain_epochs, lr, config.final_lr, longest_stage=None), epochs)
