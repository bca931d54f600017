"""What a launch would do, before it does anything: runs, stages, ids, costs."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment import networks
from prune_jax.experiment.datasets import AnyDataset
from prune_jax.experiment.resolve import Arm, resolve
from prune_jax.experiment.shards import WHOLE, Shard, part
from prune_jax.experiment.specs import Imported, Pretrain, Sparsify, chain_ids, kind
from prune_jax.experiment.train import steps_per_epoch

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


def override(config: ConfigDict, overrides: Overrides) -> ConfigDict:
    """A copy of ``config`` with dotted keys replaced; ValueError for a key that it lacks."""
    changed = copy.deepcopy(config)  # not ConfigDict's own copy, which forgets what types a key may take
    try:
        changed.update_from_flattened_dict(overrides)
    except (KeyError, TypeError) as error:
        raise ValueError(f"sweep override {overrides}: {error}") from error
    return changed


def describe(arms: Sequence[Arm], dataset: AnyDataset, shard: Shard = WHOLE) -> Iterator[str]:
    """Lines for ``--dry_run``: each run's stages with ids, epochs, schedule and cost, and the totals.

    Of a shard, its own runs alone, numbered as in the whole sweep.
    """
    mine = part(list(enumerate(arms, 1)), shard)
    seen: set[str] = set()
    total = 0.0
    for number, arm in mine:
        dense = networks.cost_of(arm.model)
        small = networks.cost_of(arm.model, networks.widths_of(arm.model, arm.ratios))
        yield (
            f"run {number}/{len(arms)} {arm.label}: {arm.model.name}, seeds {list(arm.seeds)}, "
            f"{dense.macs:,} -> {small.macs:,} MACs, {dense.params:,} -> {small.params:,} params, "
            f"speedup {dense.macs / small.macs:.2f}x"
        )
        for position, spec in enumerate(arm.chain):
            ids = [chain_ids(arm.chain, seed)[position] for seed in arm.seeds]
            shared = sum(stage_id in seen for stage_id in ids)
            note = f"  (shared with a run above: {shared} of {len(ids)})" if shared else ""
            if isinstance(spec, Imported):
                yield f"  {kind(spec):9} {ids[0]}  from {arm.config['base']['checkpoint']}, for every seed{note}"
            elif isinstance(spec, Sparsify):
                yield f"  {kind(spec):9} {ids[0]}  {spec.criterion}, recovery {spec.recovery}{note}"
            else:
                macs = dense.macs if isinstance(spec, Pretrain) else small.macs
                steps = steps_per_epoch(dataset.train_size, spec.train.batch_size)
                # the field's rule of thumb: a backward pass costs two forward passes
                flops = 6.0 * macs * steps * spec.train.batch_size * spec.train.epochs
                total += flops * (len(ids) - shared)
                most = "" if spec.train.extend is None else "until plateaus, at most "
                yield (
                    f"  {kind(spec):9} {ids[0]}  {most}{spec.train.epochs} epochs, LR {spec.train.schedule}, "
                    f"{flops:.2e} FLOPs a seed{note}"
                )
            seen.update(ids)
    yield f"{len(mine)} runs, {len(seen)} distinct stages, {total:.2e} training FLOPs in all; nothing was started"
