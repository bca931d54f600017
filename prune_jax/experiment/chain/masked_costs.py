"""What a record states of training under a mask: costs where zeros are skipped, and the axes of a mask rule."""

import dataclasses

from prune_jax import fairness
from prune_jax.experiment import networks
from prune_jax.experiment.arm import Link
from prune_jax.experiment.chain import restore, sparse_training
from prune_jax.experiment.specs import Initialise, Masking, SparseScratch, Stage
from prune_jax.experiment.storage import stages as disk
from prune_jax.pruning.layouts.n_of_m import is_pattern, pattern_of
from prune_jax.pruning.mask_rules.costs import held_macs


def with_masked(store: disk.Store, link: Link, stage: fairness.Stage) -> fairness.Stage:
    """The stage of a record with ``masked_macs``, and the extra passes of a mask rule, where it trains under a mask."""
    if not hasattr(link.spec, "train"):
        return stage
    told = [_masked(store, link, its_id) for its_id in link.ids]
    if any(each is None for each in told):
        return stage
    masked, extra = (sum(each) / len(told) for each in zip(*filter(None, told), strict=True))
    total = extra + (stage.extra_macs or 0.0)
    return dataclasses.replace(stage, masked_macs=masked, extra_macs=total or stage.extra_macs)


def _masked(store: disk.Store, link: Link, its_id: str) -> tuple[float, float] | None:
    """``masked_macs`` and ``extra_macs`` of a finished stage: a rule's own, or those of the mask that it holds."""
    lineage = restore.lineage_of(store, its_id)
    about, model = lineage[0][1], link.arm.model
    if "masked_macs" in about:
        return about["masked_macs"], about["extra_macs"]
    mask = restore.mask_after(store, model, lineage)
    if mask is None:
        return None
    total = networks.cost_of(model, restore.widths_after(lineage)).macs
    return held_macs(mask, networks.kernel_macs(model), total), 0.0


def axes(masking: Masking, head: Stage) -> fairness.Axes:
    """The five axes of a method that is a mask rule (§2.1)."""
    given, units = dict(masking.arguments), sparse_training.units_of(masking)
    ratio = pattern_of(units).ratio if is_pattern(units) else given.get("ratio")
    distribution = given.get("distribution")
    text = None if ratio is None else f"{distribution} {ratio:g}" if distribution else f"{ratio:g}"
    base = "random" if isinstance(head, Initialise | SparseScratch) else "pretrained"
    return fairness.Axes(
        base, units, text, masking.rule, "one-shot" if masking.rule == "static" else "progressive"
    )
