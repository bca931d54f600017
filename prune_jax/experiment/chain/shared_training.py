"""Runs of a sweep whose training stage differs in the LR schedule alone: their replicas train as one program."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from prune_jax.experiment.arm import Arm
from prune_jax.experiment.specs import Stage
from prune_jax.experiment.training.cohort import Member


def column(arms: Sequence[Arm], arm: Arm, position: int) -> tuple[Arm, ...]:
    """The runs among ``arms`` that train stage ``position`` of ``arm`` together with it, in their order.

    All of them begin at the same weights, take as many epochs, and are measured and executed alike. Which they are
    depends on the whole sweep, never on who comes first, so that every process names the same. ``arm`` alone where
    it asks for no more (``execution.together``), or a rule extends its LR stages.
    """
    spec: Any = arm.chain[position]
    if arm.execution.together != "sweep" or spec.train.extend is not None:
        return (arm,)
    mine = _alike(arm, position)
    return tuple(other for other in arms if _alike(other, position) == mine) or (arm,)


def members(arms: Sequence[Arm], position: int) -> tuple[Member, ...]:
    """The replicas that stage ``position`` of these runs has, each once, with their own LR schedules."""
    found: dict[str, Member] = {}
    for arm in arms:
        spec: Any = arm.chain[position]
        for seed, ids in zip(arm.seeds, arm.ids, strict=True):
            parent = ids[position - 1] if position else None
            found.setdefault(ids[position], Member(seed, ids[position], parent, spec.train.schedule))
    return tuple(found.values())


def _alike(arm: Arm, position: int) -> tuple[Any, ...]:
    """What is the same in all runs of a column. Of a run without such a stage, nothing is."""
    if position >= len(arm.chain) or not hasattr(arm.chain[position], "train"):
        return (arm,)
    return (
        *(arm.chain[:position], _without_rate(arm.chain[position]), len(arm.chain)),
        *(arm.seeds, arm.measure, arm.execution, arm.mesh, arm.remat),
    )


def _without_rate(spec: Stage) -> Stage:
    stage: Any = spec
    return dataclasses.replace(stage, train=dataclasses.replace(stage.train, schedule=""))
