"""The chain: every stage of an arm brought to its end on disk, for every seed."""

from typing import Any

import numpy as np

from prune_jax import models
from prune_jax.experiment import imported, networks, spectra, stage_network
from prune_jax.experiment import store as disk
from prune_jax.experiment.cohort import Context, Member, is_finished, member_key, train_cohort
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
from prune_jax.experiment.train import Recipe, abstract_model, make_trainer
from prune_jax.pruning import allocation, recovery, surgery
from prune_jax.pruning.criteria import CRITERIA, Evidence


def run_chain(context: Context, arm: Arm) -> None:
    """Finish every stage of ``arm`` that is not on disk yet, parents first, and measure what is missing."""
    ids = [chain_ids(arm.chain, seed) for seed in arm.seeds]
    for position, spec in enumerate(arm.chain):
        members = tuple(
            Member(seed, chain[position], chain[position - 1] if position else None)
            for seed, chain in zip(arm.seeds, ids, strict=True)
        )
        if isinstance(spec, Sparsify):
            for member in members:
                if disk.read_stage(context.store, member.id) is None:
                    _sparsify(context, arm.model, spec, member)
        elif isinstance(spec, Imported):
            if not imported.is_measured(context, spec):
                path = arm.config["base"]["checkpoint"]
                imported.bring_in(context, spec, path, _recipe(arm, arm.chain[-1]))
        else:
            _train(context, arm, spec, members)
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


def _train(
    context: Context, arm: Arm, spec: Pretrain | Retrain | Scratch, members: tuple[Member, ...]
) -> None:
    recipe = _recipe(arm, spec)

    def initial(member: Member) -> Any:
        if isinstance(spec, Pretrain):
            return _fresh(spec.model, None, member.seed)
        if isinstance(spec, Scratch):
            return _fresh(spec.model, networks.widths_of(spec.model, spec.ratios), member.seed)
        assert member.parent is not None
        return stage_network.load(context.store, member.parent).variables

    together = [members] if arm.execution.replicas == "vmap" else [(member,) for member in members]
    for cohort in together:
        train_cohort(context, spec, cohort, make_trainer(recipe), initial)


def _recipe(arm: Arm, spec: Stage) -> Recipe:
    """How a training stage of the arm is compiled."""
    assert isinstance(spec, Pretrain | Retrain | Scratch)
    train = spec.train
    return Recipe(spec.data, arm.model, train.batch_size, train.momentum, train.weight_decay, arm.execution)


def _fresh(model: ModelSpec, widths: dict[str, int] | None, seed: int) -> Any:
    """Random variables of the dense network, or of the small one with an initialisation of its own size."""
    module = models.create(
        model.name,
        num_classes=model.num_classes,
        input_shape=model.input_shape,
        widths=widths,
        key=member_key(seed, "init"),
        **dict(model.options),
    )
    return models.functional(module).variables


def _sparsify(context: Context, model: ModelSpec, spec: Sparsify, member: Member) -> None:
    """The sparsifying action: score, choose, cut, and recover where the spec asks for it."""
    assert member.parent is not None
    context.progress.begin(kind(spec), 1, 0)
    like = models.functional(abstract_model(model)).variables
    variables = disk.load_variables(context.store, member.parent, like)
    groups = networks.groups_of(model)
    evidence = Evidence(variables, groups, key=member_key(member.seed, "criterion"))
    scores = CRITERIA[spec.criterion](evidence)
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
        "seed": member.seed,
        "parent": member.parent,
        "keep": {name: np.asarray(kept).tolist() for name, kept in keep.items()},
    }
    disk.save_stage(context.store, member.id, small, about)
