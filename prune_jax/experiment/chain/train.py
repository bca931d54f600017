"""A training stage: pretrain, retrain or scratch, brought to its end on disk for every seed."""

import functools
from typing import Any

from prune_jax import fairness
from prune_jax.experiment import depth, networks
from prune_jax.experiment.arm import Arm, Link
from prune_jax.experiment.chain import distilling, restore, shared_training
from prune_jax.experiment.config import optimizer_keys, plateau_rule
from prune_jax.experiment.own import network as own_network
from prune_jax.experiment.specs import ModelSpec, Regularise, Scratch, Stage, stated
from prune_jax.experiment.storage import checkpoints, leases
from prune_jax.experiment.storage import stages as disk
from prune_jax.experiment.training.cohort import (
    Context,
    Member,
    Start,
    cohort_id,
    is_finished,
    member_key,
    train_cohort,
)
from prune_jax.experiment.training.divergence import refuse_known
from prune_jax.experiment.training.masking import compiled, plan_of, rule_of
from prune_jax.experiment.training.penalties import Pushing, pushing_of
from prune_jax.experiment.training.step import StepPlan
from prune_jax.experiment.training.trainer import Recipe
from prune_jax.experiment.twins import Channels, channels_of
from prune_jax.pruning.keep import Keep
from prune_jax.pruning.mask_rules.step import begin


def finish(context: Context, link: Link) -> None:
    """Train a stage of the run, with those of the runs that share its column (see ``shared_training``).

    BusyError, with everything done that could be, where another process trains one of its seeds.
    """
    arm, position = link
    shared = shared_training.column(context.arms, arm, position)
    spec: Any = shared[0].chain[position]
    mine = shared_training.members([arm], position)
    ids = [member.id for member in mine]
    refuse_known(context.store, ids)
    busy = None
    together = shared_training.members(shared, position)
    for model, channels, pushing, cohort in _cohorts(context.store, link, together, mine):
        wanted = [member.id for member in cohort if member.id in ids]
        plan = compiled(plan_of(spec, context.data.train_size))
        distill = getattr(spec, "distill", None)
        recipe = recipe_of(arm, spec)._replace(
            model=model, channels=channels, masking=plan, distill=distill, pushing=pushing
        )
        try:
            _train_alone(context, link, cohort, wanted, recipe)
        except leases.BusyError as error:  # the other cohorts need not wait for this one
            busy = error
    if busy:
        raise busy
    refuse_known(context.store, ids)


def _cohorts(
    store: disk.Store, link: Link, together: tuple[Member, ...], mine: tuple[Member, ...]
) -> list[tuple[ModelSpec, Channels, Pushing | None, tuple[Member, ...]]]:
    """Who trains as one program: those whose networks have equal widths, which a ranking may have made differ.

    Of networks that have lost blocks the model is the one that is left.

    Twins of one network must have kept the same channels too, which are given with them. Under a penalty their
    coupled groups must agree, which are given too.
    """
    alone = link.arm.execution.replicas != "vmap"
    alike: dict[Any, list[Member]] = {}
    for member in mine if alone else together:
        keep = _keep_before(store, link.spec, member)
        widths = tuple(sorted((name, len(kept)) for name, kept in keep.items()))
        model, rest = depth.at_depth(link.arm.model, keep)
        pushing = pushing_of(model, link.spec, rest) if isinstance(link.spec, Regularise) else None
        key = (model, channels_of(model, rest), pushing, widths, member.id if alone else "")
        alike.setdefault(key, []).append(member)
    ids = {member.id for member in mine}
    return [(*key[:3], tuple(each)) for key, each in alike.items() if ids & {member.id for member in each}]


def _keep_before(store: disk.Store, spec: Any, member: Member) -> Keep:
    """Channels of the dense network that a replica has as it begins to train, in each group that was cut."""
    if member.parent is None:
        return own_network.first(_scratch_widths(spec) or {})
    return restore.keep_after(restore.lineage_of(store, member.parent))


def _start(context: Context, link: Link, member: Member) -> Start:
    """What a replica trains from: variables, the mask that training holds, its rule's memory, its teacher."""
    spec = link.spec
    if member.parent is None:
        start = Start(fresh(spec.model, _scratch_widths(spec), member.seed))
    else:
        network = restore.load(context.store, member.parent)
        start = Start(network.variables, network.mask)
    plan = plan_of(spec, context.data.train_size)
    if plan is not None:
        key = member_key(member.seed, f"{link.purpose}/mask")
        params, state = begin(rule_of(plan), start.variables["params"], key)
        start = Start({**start.variables, "params": params}, *state)
    return start._replace(teacher=distilling.teacher_of(context.store, link, member))


def _scratch_widths(spec: Any) -> dict[str, int] | None:
    """The widths that a small network has from its start. None for a dense one."""
    return networks.widths_of(spec.model, spec.ratios, spec.round_to) if isinstance(spec, Scratch) else None


def _train_alone(
    context: Context, link: Link, members: tuple[Member, ...], wanted: list[str], recipe: Recipe
) -> None:
    """Train a cohort, for the stages ``wanted`` of it, while no other process does.

    BusyError when one does, or has taken it over meanwhile.
    """
    store, ids = context.store, [member.id for member in members]
    finished = all(is_finished(context, its_id) for its_id in wanted)
    if finished and checkpoints.read_partial(store, cohort_id(members)) is None:
        return

    def on_epoch(*epoch: Any) -> None:
        leases.check(store.locks, ids)
        context.on_epoch(*epoch)

    try:
        with leases.held(store.locks, ids):
            own = context._replace(on_epoch=on_epoch)
            train_cohort(
                own, link.spec, members, recipe, functools.partial(_start, context, link), link.purpose
            )
    except leases.BusyError:
        if not finished:  # what is left to do is no more than to clear up
            raise


def recipe_of(arm: Arm, spec: Stage) -> Recipe:
    """How a training stage of the arm is compiled."""
    stage: Any = spec
    train = stage.train
    return Recipe(
        stage.data,
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


def recorded(link: Link, macs: float, lengths: set[int]) -> fairness.Stage:
    """The link of a record's chain, at ``macs`` a forward pass.

    ``lengths``: the epochs that the seeds took, which a rule may have made differ.
    """
    train, told = link.spec.train, stated(link.spec)
    taught = getattr(link.spec, "distill", None) is not None
    extra = networks.cost_of(link.arm.model).macs if taught else None  # the teacher's forward pass
    if train.extend is None:
        return fairness.Stage(link.kind, link.ids, train.epochs, train.schedule, macs, told, extra)
    epochs = lengths.pop() if len(lengths) == 1 else None
    return fairness.Stage(link.kind, link.ids, epochs, plateau_rule.text(train), macs, told, extra)


def line(link: Link) -> str:
    """What a dry run says of it."""
    train = link.spec.train
    most = "" if train.extend is None else "until plateaus, at most "
    distill = getattr(link.spec, "distill", None)
    taught = (
        f", distilled (weight {distill.weight:g}, temperature {distill.temperature:g})" if distill else ""
    )
    return f"{most}{train.epochs} epochs, LR {train.schedule}{taught}"
