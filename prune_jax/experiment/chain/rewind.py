"""Rewinding as a stage: what is left of a network gets the values back that it had early in its training.

To epoch 0 these are the random weights that pretraining began from, which the seed gives again: the lottery ticket of
Frankle & Carbin (ICLR 2019, arXiv 1803.03635). To epoch k they are those after k epochs (Frankle et al., ICML 2020,
arXiv 1912.05671).

A finished pretraining holds its last weights alone, and nothing that changes no weight may enter its id. So there is no
snapshot at epoch k that one could count on. Instead the first k epochs are a stage of their own: the pretraining's spec
with k epochs and the head of its schedule. Batches and augmentation of an epoch hang on seed and epoch alone, so its
weights are those of the long pretraining after k epochs, bit for bit. It is computed once, shared by all runs that
rewind there, and resumed like any stage. Where k is all of the pretraining it is the pretraining itself.
"""

import dataclasses
from typing import Any

from prune_jax import fairness
from prune_jax.experiment import depth, networks
from prune_jax.experiment.arm import Arm, Link
from prune_jax.experiment.chain import restore, train
from prune_jax.experiment.networks import StageNetwork
from prune_jax.experiment.specs import Pretrain, Rewind, stage_id, stated
from prune_jax.experiment.storage import leases
from prune_jax.experiment.storage import stages as disk
from prune_jax.experiment.training.cohort import Context, is_finished
from prune_jax.pruning import masks, surgery
from prune_jax.schedules import LRSchedule


def finish(context: Context, link: Link) -> None:
    """Rewind every seed, unless it is done. BusyError when another process is at it, or trains the first epochs."""
    if all(is_finished(context, its_id) for its_id in link.ids):
        return
    early = beginning(link.arm, link.spec)
    if early is not None:
        train.finish(context, Link(early, 0))
    for number, its_id in enumerate(link.ids):
        if is_finished(context, its_id):
            continue
        with leases.held(context.store.locks, [its_id]):
            if not is_finished(context, its_id):
                _act(context, link, number, early)


def recorded(link: Link, macs: float, lengths: set[int]) -> fairness.Stage:
    """The link of a record's chain. It takes no epochs: these are the pretraining's, which the chain counts."""
    del lengths
    return fairness.Stage("rewind", link.ids, 0, None, macs, stated(link.spec))


def line(link: Link) -> str:
    """What a dry run says of it."""
    early = beginning(link.arm, link.spec)
    if early is None:
        return "weights back to initialisation"
    return f"weights back to epoch {link.spec.to} of pretraining, kept as stage {early.ids[0][0]}"


def beginning(arm: Arm, spec: Rewind) -> Arm | None:
    """A run that is the first ``spec.to`` epochs of the arm's pretraining alone. None where it has no epochs."""
    if not spec.to:
        return None
    head: Any = arm.chain[0]
    schedule = LRSchedule.parse(head.train.schedule, head.train.epochs).head(spec.to)
    short = dataclasses.replace(head.train, schedule=str(schedule), epochs=spec.to)
    stage = Pretrain(head.data, head.model, short)
    ids = tuple((stage_id(stage, seed, None),) for seed in arm.seeds)
    return arm._replace(chain=(stage,), ids=ids)


def _act(context: Context, link: Link, number: int, early: Arm | None) -> None:
    context.progress.begin(link.kind, 1, 0)
    seed, parent = link.arm.seeds[number], link.parents[number]
    assert parent is not None
    now = restore.load(context.store, parent)
    if early is None:
        dense = train.fresh(depth.whole(now.model), None, seed)
    else:
        dense = restore.load(context.store, early.ids[number][0]).variables
    about = {"kind": link.kind, "spec": stated(link.spec), "seed": seed, "parent": parent}
    disk.save_stage(context.store, link.ids[number], survivors(now, dense), about)


def survivors(now: StageNetwork, dense: Any) -> Any:
    """The dense network's variables, as far as they are left in the network as it is now. Masked ones are 0."""
    left = depth.removed(dense, {}, now.blocks)
    small = surgery.shrink(left, networks.groups_of(now.model), now.keep) if now.keep else left
    if now.mask is None:
        return small
    return {**small, "params": masks.apply_mask(small["params"], now.mask)}
