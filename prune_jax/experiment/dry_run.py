"""What a launch would do, before it does anything: runs, stages, ids, costs."""

from collections.abc import Iterator, Sequence
from typing import Any

from prune_jax.experiment import depth, networks
from prune_jax.experiment.arm import Arm, links
from prune_jax.experiment.chain.kinds import kind_of
from prune_jax.experiment.chain.rewind import beginning
from prune_jax.experiment.cluster.shards import WHOLE, Shard, part
from prune_jax.experiment.config.chain import override as override
from prune_jax.experiment.config.dataset import AnyDataset
from prune_jax.experiment.networks import steps_per_epoch
from prune_jax.experiment.specs import Rewind, Scratch, Sparsify
from prune_jax.pruning.cost import Cost
from prune_jax.pruning.granularity import cuts_channels


def describe(arms: Sequence[Arm], dataset: AnyDataset, shard: Shard = WHOLE) -> Iterator[str]:
    """Lines for ``--dry_run``: each run's stages with ids, epochs, schedule and cost, and the totals.

    Of a shard, its own runs alone, numbered as in the whole sweep.
    """
    mine = part(list(enumerate(arms, 1)), shard)
    seen: set[str] = set()
    total = 0.0
    for number, arm in mine:
        dense, costs = networks.cost_of(arm.model), costs_along(arm)
        end = _end(dense, costs[-1])
        yield f"run {number}/{len(arms)} {arm.label}: {arm.model.name}, seeds {list(arm.seeds)}, {end}"
        for link, cost in zip(links(arm), costs, strict=True):
            shared = sum(stage_id in seen for stage_id in link.ids)
            note = f"  (shared with a run above: {shared} of {len(link.ids)})" if shared else ""
            said = kind_of(link.spec).line(link)
            early = beginning(arm, link.spec) if isinstance(link.spec, Rewind) else None
            if early is not None:
                flops = _flops(dense, early.chain[0], dataset)
                new = {ids[0] for ids in early.ids} - seen
                total += flops * len(new)
                said += f", {flops:.2e} FLOPs a seed" if new else ", which a stage above is"
                seen |= new
            if kind_of(link.spec).trains:
                flops = _flops(cost or dense, link.spec, dataset)
                total += flops * (len(link.ids) - shared)
                said += f", {'at most ' * (cost is None)}{flops:.2e} FLOPs a seed"
            elif isinstance(link.spec, Sparsify) and len(arm.chain) > 3 and cost is not None:
                said += f", {cost.macs:,} MACs, speedup {dense.macs / cost.macs:.2f}x"
            yield f"  {link.kind:9} {link.ids[0]}  {said}{note}"
            seen.update(link.ids)
    yield f"{len(mine)} runs, {len(seen)} distinct stages, {total:.2e} training FLOPs in all; nothing was started"


def _flops(cost: Cost, spec: Any, dataset: AnyDataset) -> float:
    """FLOPs of a training stage, by the field's rule of thumb: a backward pass costs two forward passes."""
    steps = steps_per_epoch(dataset.train_size, spec.train.batch_size)
    return 6.0 * cost.macs * steps * spec.train.batch_size * spec.train.epochs


def _end(dense: Cost, small: Cost | None) -> str:
    """The dense network's cost and that of the last one, where it is known before the scores are."""
    if small is None:
        return f"{dense.macs:,} MACs, {dense.params:,} params, dense; the scores decide what is left"
    return (
        f"{dense.macs:,} -> {small.macs:,} MACs, {dense.params:,} -> {small.params:,} params, "
        f"speedup {dense.macs / small.macs:.2f}x"
    )


def costs_along(arm: Arm) -> list[Cost | None]:
    """The cost of the network after each stage, before anything is run. None where the scores decide it."""
    return [None if widths is None else networks.cost_of(arm.model, widths) for widths in widths_along(arm)]


def makes_smaller(granularity: str) -> bool:
    """Whether channels or blocks are gone afterwards. Else weights are held at zero."""
    return cuts_channels(granularity) or granularity == depth.GRANULARITY


def widths_along(arm: Arm) -> list[dict[str, int] | None]:
    """The channels left in each cut group after each stage, before anything is run. None where the scores decide."""
    widths: dict[str, int] | None = {}
    out = []
    for spec in arm.chain:
        if isinstance(spec, Scratch):
            widths = networks.widths_of(arm.model, spec.ratios, spec.round_to)
        elif isinstance(spec, Sparsify) and makes_smaller(spec.granularity):
            known = spec.ranking is None and widths is not None
            mine = networks.widths_of(arm.model, spec.ratios, spec.round_to)
            widths = {**(widths or {}), **mine} if known else None
        out.append(widths)
    return out
