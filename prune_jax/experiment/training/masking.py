"""The mask rule that a training stage is under: made from its spec and the number of its steps."""

import functools
from typing import Any, NamedTuple

from prune_jax.experiment import networks
from prune_jax.experiment.networks import steps_per_epoch
from prune_jax.experiment.own import parts as own_parts
from prune_jax.experiment.specs import Masking, ModelSpec, TrainSpec
from prune_jax.pruning.mask_rules.costs import TrainingMacs, training_macs
from prune_jax.pruning.mask_rules.rule import MaskRule
from prune_jax.pruning.mask_rules.table import RULES

KEY = "mask_rule.name"


class MaskPlan(NamedTuple):
    """A mask rule over a training of ``steps`` steps, ``epoch`` of them an epoch."""

    spec: Masking
    steps: int
    epoch: int


def planned(masking: Masking, train: TrainSpec, examples: int) -> MaskPlan:
    """The plan of a rule over a stage's training on a split of so many examples."""
    epoch = steps_per_epoch(examples, train.batch_size)
    return MaskPlan(masking, epoch * train.epochs, epoch)


def plan_of(spec: Any, examples: int) -> MaskPlan | None:
    """The same of a stage's spec. None for a stage without a rule."""
    masking = getattr(spec, "masking", None)
    return None if masking is None else planned(masking, spec.train, examples)


def compiled(plan: MaskPlan | None) -> MaskPlan | None:
    """The plan as far as the compiled step depends on it: rules of the table that differ in the ratio alone share one.

    How many weights go at each turn is in the rule's memory, and so an argument of the step.
    """
    if plan is None or own_parts.is_own(plan.spec.rule) or dict(plan.spec.arguments).get("initial"):
        return plan
    arguments = tuple((name, value) for name, value in plan.spec.arguments if name != "ratio")
    if arguments == plan.spec.arguments:
        return plan
    spec = Masking(plan.spec.rule, plan.spec.layers, (*arguments, ("ratio", 0.5)))
    return plan._replace(spec=spec)


def costs_of(spec: Any, model: ModelSpec, examples: int) -> dict[str, float]:
    """What a stage under a rule is to say of its costs, ``masked_macs`` and ``extra_macs``. Nothing without a rule."""
    plan = plan_of(spec, examples)
    if plan is None:
        return {}
    macs = macs_of(plan, model)
    return {"masked_macs": macs.masked, "extra_macs": macs.extra}


def macs_of(plan: MaskPlan, model: ModelSpec) -> TrainingMacs:
    """What a step of the network takes under a plan, an example, as a mean over training."""
    params = networks.network_of(model).variables["params"]
    return training_macs(rule_of(plan), params, networks.kernel_macs(model), networks.cost_of(model).macs)


@functools.cache  # a memo of a pure function of a frozen spec
def rule_of(plan: MaskPlan) -> MaskRule:
    """The rule of a plan. Raises ValueError as its function does, and as ``load_own``."""
    spec, arguments = plan.spec, dict(plan.spec.arguments)
    given = {"steps": plan.steps, "epoch": plan.epoch, "layers": spec.layers, **arguments}
    if not own_parts.is_own(spec.rule):
        return RULES[spec.rule].make(**given)
    make = own_parts.load_own(spec.rule, KEY)
    made = own_parts.call_own(make, spec.rule, KEY, **own_parts.taken(make, given))
    if not isinstance(made, MaskRule):
        raise ValueError(
            f"{KEY} is {spec.rule!r}, which returned {type(made).__name__}; it must return a MaskRule"
        )
    return made
