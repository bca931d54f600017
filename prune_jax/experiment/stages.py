"""The chain: every stage of an arm brought to its end on disk, for every seed."""

from collections.abc import Callable
from typing import Any

import numpy as np

from prune_jax.experiment import (
    columns,
    imported,
    locks,
    networks,
    optimizer_keys,
    own_criterion,
    own_parts,
    partial,
    spectra,
    stage_network,
)
from prune_jax.experiment import store as disk
from prune_jax.experiment.cohort import Context, Member, cohort_id, is_finished, member_key, train_cohort
from prune_jax.experiment.divergence import refuse_known
from prune_jax.experiment.resolve import Arm
from prune_jax.experiment.specs import (
    Imported,
    ModelSpec,
    Pretrain,
    Retrain,
    Scratch,
    Sparsify,
    Stage,
    chain_ids,
    kind,
    stated,
)
from prune_jax.experiment.step import StepPlan
from prune_jax.experiment.train import Recipe, network_of
from prune_jax.pruning import allocation, recovery, surgery
from prune_jax.pruning.evidence import Evidence


def run_chain(context: Context, arm: Arm) -> None:
    """Finish every stage of ``arm`` that is not on disk yet, parents first, and measure what is missing.

    Raises BusyError, with everything done that could be, where another process computes a stage that is needed.
    """
    ids = [chain_ids(arm.chain, seed) for seed in arm.seeds]
    for position, spec in enumerate(arm.chain):
        if isinstance(spec, Sparsify):
            for seed, chain in zip(arm.seeds, ids, strict=True):
                _sparsify(context, arm.model, spec, seed, *chain[position - 1 : position + 1])
        elif isinstance(spec, Imported):
            _bring_in(context, arm, spec, ids[0][position])
        else:
            _train(context, arm, position)
    spectra.measure_missing(context, arm)


def is_chain_finished(context: Context, arm: Arm) -> bool:
    """Whether nothing of ``arm`` is left to compute."""
    stages = (zip(arm.chain, chain_ids(arm.chain, seed), strict=True) for seed in arm.seeds)
    there = all(_is_there(context, spec, its_id) for chain in stages for spec, its_id in chain)
    return there and not spectra.missing(context.store, arm, context.measure)


def _is_there(context: Context, spec: Stage, its_id: str) -> bool:
    if isinstance(spec, Sparsify):
        return disk.read_stage(context.store, its_id) is not None
    if isinstance(spec, Imported):
        return imported.is_measured(context, spec)
    return is_finished(context, its_id)


def _train(context: Context, arm: Arm, position: int) -> None:
    """Train a stage of the arm, with those of the runs that share its column (see ``columns``)."""
    shared = columns.column(context.arms, arm, position)
    spec: Any = shared[0].chain[position]
    recipe, mine = recipe_of(arm, spec), columns.members([arm], position)
    ids = [member.id for member in mine]
    refuse_known(context.store, ids)

    def initial(member: Member) -> Any:
        if isinstance(spec, Pretrain):
            return fresh(spec.model, None, member.seed)
        if isinstance(spec, Scratch):
            return fresh(spec.model, networks.widths_of(spec.model, spec.ratios), member.seed)
        assert member.parent is not None
        return stage_network.load(context.store, member.parent).variables

    if arm.execution.replicas == "vmap":
        together = [(columns.members(shared, position), ids)]
    else:
        together = [((member,), [member.id]) for member in mine]
    busy = None
    for cohort, wanted in together:
        try:
            _train_alone(context, spec, cohort, wanted, recipe, initial)
        except locks.BusyError as error:  # the other cohorts need not wait for this one
            busy = error
    if busy:
        raise busy
    refuse_known(context.store, ids)


def _train_alone(
    context: Context,
    spec: Pretrain | Retrain | Scratch,
    members: tuple[Member, ...],
    wanted: list[str],
    recipe: Recipe,
    initial: Callable[[Member], Any],
) -> None:
    """Train a cohort, for the stages ``wanted`` of it, while no other process does.

    BusyError when one does, or has taken it over meanwhile.
    """
    store, ids = context.store, [member.id for member in members]
    finished = all(is_finished(context, its_id) for its_id in wanted)
    if finished and partial.read_partial(store, cohort_id(members)) is None:
        return

    def on_epoch(*epoch: Any) -> None:
        locks.check(store.locks, ids)
        context.on_epoch(*epoch)

    try:
        with locks.held(store.locks, ids):
            train_cohort(context._replace(on_epoch=on_epoch), spec, members, recipe, initial)
    except locks.BusyError:
        if not finished:  # what is left to do is no more than to clear up
            raise


def _bring_in(context: Context, arm: Arm, spec: Imported, its_id: str) -> None:
    if imported.is_measured(context, spec):
        return
    with locks.held(context.store.locks, [its_id]):
        if not imported.is_measured(context, spec):
            path = arm.config["base"]["checkpoint"]
            imported.bring_in(context, spec, path, recipe_of(arm, arm.chain[-1]))


def recipe_of(arm: Arm, spec: Stage) -> Recipe:
    """How a training stage of the arm is compiled."""
    assert isinstance(spec, Pretrain | Retrain | Scratch)
    train = spec.train
    return Recipe(
        spec.data,
        arm.model,
        train.batch_size,
        train.momentum,
        train.weight_decay,
        arm.execution,
        arm.mesh,
        StepPlan(
            train.precision,
            arm.remat,
            train.accumulate,
            arm.execution.epoch == "step",
            train.label_smoothing,
            train.ema,
        ),
        optimizer_keys.rule_of(train),
    )


def fresh(model: ModelSpec, widths: dict[str, int] | None, seed: int) -> Any:
    """Random variables of the dense network, or of the small one with an initialisation of its own size."""
    return networks.fresh(model, widths, member_key(seed, "init"))


def _sparsify(
    context: Context, model: ModelSpec, spec: Sparsify, seed: int, parent: str, its_id: str
) -> None:
    """The sparsifying action, unless it is done; BusyError when another process is at it."""
    if disk.read_stage(context.store, its_id) is not None:
        return
    with locks.held(context.store.locks, [its_id]):
        if disk.read_stage(context.store, its_id) is None:
            _cut(context, model, spec, seed, parent, its_id)


def _cut(context: Context, model: ModelSpec, spec: Sparsify, seed: int, parent: str, its_id: str) -> None:
    """Score, choose, cut, and recover where the spec asks for it."""
    context.progress.begin(kind(spec), 1, 0)
    like = network_of(model).variables
    variables = disk.load_variables(context.store, parent, like)
    groups = networks.groups_of(model)
    evidence = Evidence(variables, groups, key=member_key(seed, "criterion"))
    scores = _scores(spec, evidence)
    keep = {
        name: allocation.lowest(scores[name], allocation.pruned_count(len(scores[name]), ratio))
        for name, ratio in spec.ratios
    }
    small = surgery.shrink(variables, groups, keep)
    if spec.recovery == "orthp":
        small = {**small, "params": recovery.orthp(small["params"], gain=spec.recovery_gain)}
    about = {
        "kind": kind(spec),
        "spec": stated(spec),
        "seed": seed,
        "parent": parent,
        "keep": {name: np.asarray(kept).tolist() for name, kept in keep.items()},
    }
    disk.save_stage(context.store, its_id, small, about)


def _scores(spec: Sparsify, evidence: Evidence) -> own_criterion.Scores:
    if spec.source:
        own_parts.refuse_changed(spec.criterion, own_criterion.KEY, spec.source)
    wanted = [group for group in evidence.groups if group.name in dict(spec.ratios)]
    return own_criterion.scores_of(spec.criterion, evidence, wanted)
