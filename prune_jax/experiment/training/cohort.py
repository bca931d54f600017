"""Replicas of one training stage, trained together: resumed, measured, checkpointed, published."""

import contextlib
import dataclasses
import functools
import hashlib
import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.experiment.devices.mesh import placement, put_state, put_whole
from prune_jax.experiment.devices.replicas import split, stacked
from prune_jax.experiment.processes import collective
from prune_jax.experiment.processes.preemption import PreemptedError
from prune_jax.experiment.progress import Progress
from prune_jax.experiment.specs import (
    Gradual,
    Measure,
    Pretrain,
    Regularise,
    Retrain,
    Scratch,
    SparseScratch,
    kind,
    stated,
)
from prune_jax.experiment.storage import checkpoints
from prune_jax.experiment.storage import stages as disk
from prune_jax.experiment.training.checkpoint_timer import Clock
from prune_jax.experiment.training.divergence import TrainingDivergedError, emptied, is_known, nothing_left
from prune_jax.experiment.training.feed import Feed, Halfway, open_feed
from prune_jax.experiment.training.inputs import Inputs
from prune_jax.experiment.training.judging import metric_of
from prune_jax.experiment.training.lr_course import Course, course_of
from prune_jax.experiment.training.masking import costs_of
from prune_jax.experiment.training.measure import entries, measure
from prune_jax.experiment.training.step import variables_of
from prune_jax.experiment.training.trainer import Recipe, Trainer, TrainState, make_trainer

TrainingStage = Pretrain | Gradual | Regularise | Retrain | Scratch | SparseScratch
History = list[dict[str, Any]]
GO_ON = "what was finished is kept, run the same command again to go on"


class Member(NamedTuple):
    """One replica: its seed, its stage's id, its parent stage's id and the LR schedule of its run."""

    seed: int
    id: str
    parent: str | None
    schedule: str


class Start(NamedTuple):
    """What a replica trains from: variables, the mask and the memory of its rule, and its teacher's variables.

    A field is None for all members of a cohort or for none of them. Variables are never None.
    """

    variables: Any
    mask: Any = None
    memory: Any = None
    teacher: Any = None


class Context(NamedTuple):
    """What every stage of a run shares."""

    store: disk.Store
    data: Inputs
    measure: Measure
    checkpoint_seconds: float
    progress: Progress
    # (spec, members, their histories so far): called as a cohort begins and after every epoch, before it is saved
    on_epoch: Callable[[Any, tuple[Member, ...], list[History]], None] = lambda *_: None
    arms: tuple[Any, ...] = ()  # all runs of the sweep: a run's replicas may train with those of others
    keep: int = 1  # checkpoints of an unfinished stage
    stopping: Callable[[], bool] = lambda: False  # whether the run is to end at the next step that allows it


class Job(NamedTuple):
    """A cohort in training: what it is, what feeds it, where it is kept."""

    context: Context
    spec: TrainingStage
    members: tuple[Member, ...]
    trainer: Trainer
    feed: Feed
    course: Course
    kept: checkpoints.Partial
    about: dict[str, Any]
    clock: Clock


def member_key(seed: int, purpose: str) -> jax.Array:
    """The PRNG key of one seed for one purpose ('init', or a stage's kind)."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))


def cohort_id(members: tuple[Member, ...]) -> str:
    """16 hex digits naming replicas that train together: what their common checkpoint is stored under."""
    return hashlib.sha256(" ".join(member.id for member in members).encode()).hexdigest()[:16]


def is_finished(context: Context, stage_id: str) -> bool:
    """Whether a stage is on disk. What of it is measured, and how, makes no difference."""
    return disk.read_stage(context.store, stage_id) is not None


def train_cohort(
    context: Context,
    spec: TrainingStage,
    members: tuple[Member, ...],
    recipe: Recipe,
    start: Callable[[Member], tuple[Any, ...]],
    purpose: str = "",
) -> None:
    """Train every member's stage to its end, and save it.

    Members that are finished, or known to diverge, are left alone. An unfinished cohort goes on from its last
    checkpoint with exactly the members that it had. So it ends bit-identical to an uninterrupted one. Where a loss is
    not finite, that run is lost and the others go on.

    Args:
        context: what every stage of a run shares.
        spec: the stage. Of it the LR schedule is each member's own.
        members: the replicas that train together.
        recipe: what the compiled trainer depends on.
        start: what a member starts from: a ``Start``, or the first of its fields.
        purpose: of the PRNG keys. Empty: the stage's kind.

    Raises:
        TrainingDivergedError: all runs are lost.
    """
    cohort = cohort_id(members)
    before = checkpoints.read_partial(context.store, cohort)
    if before is not None and Measure(**before["measure"]) != context.measure:
        checkpoints.drop_partial(context.store, cohort)  # measured otherwise: its curve would have a gap
        before = None
    wanted = None if before is None else set(before["members"])

    def is_open(member: Member) -> bool:
        if wanted is not None:
            return member.id in wanted
        return not is_finished(context, member.id) and not is_known(context.store, member.id)

    todo = tuple(filter(is_open, members))
    if todo:
        _train(context, spec, cohort, todo, recipe, start, purpose or kind(spec))


def _train(
    context: Context,
    spec: TrainingStage,
    cohort: str,
    members: tuple[Member, ...],
    recipe: Recipe,
    start: Callable[[Member], tuple[Any, ...]],
    purpose: str,
) -> None:
    recipe = recipe._replace(mesh=recipe.mesh.for_cohort(len(members)))
    trainer = make_trainer(recipe)
    about = {"kind": kind(spec), "spec": stated(spec), "measure": dataclasses.asdict(context.measure)}
    stops = isinstance(spec, Regularise) and spec.stop
    course = course_of(spec.train, trainer, context.data, [member.schedule for member in members], stops)
    starts = [Start(*start(member)) for member in members]
    state = course.begin(_begun(trainer, starts))
    teacher = put_state(placement(recipe.mesh), stacked([each.teacher for each in starts]))
    del starts
    with checkpoints.open_partial(context.store, cohort, context.keep) as kept:
        before = checkpoints.newest(kept) or {}
        if before:
            state = checkpoints.load(kept, state)
        keys = jnp.stack([member_key(member.seed, purpose) for member in members])
        keys = put_whole(placement(recipe.mesh), keys)
        feed = open_feed(
            trainer, recipe, context.data, keys, members[0].seed, before.get("data", {}), teacher
        )
        clock = Clock(before.get("seconds", 0.0), context.checkpoint_seconds, context.stopping)
        job = Job(context, spec, members, trainer, feed, course, kept, about, clock)
        with contextlib.closing(feed):
            state, histories = _epochs(job, state, before)
        checkpoints.settle(kept)
        timing = {"seconds": clock.seconds(), "together": len(members)}
        end = course.network(state)
        ends, masks = split(variables_of(end)), _masks_at_end(recipe, end, len(members))
        for member, history, variables, mask in zip(members, histories, ends, masks, strict=True):
            if is_known(context.store, member.id):
                continue
            mine = {"spec": stated(_own(spec, member)), "seed": member.seed, "parent": member.parent}
            told = {**about, **mine, "history": history, **timing}
            if mask is not None:
                told |= disk.save_mask(context.store, member.id, mask)
                told |= costs_of(spec, recipe.model, context.data.train_size)
            disk.save_stage(context.store, member.id, variables, told)
    checkpoints.drop_partial(context.store, cohort)


def _begun(trainer: Trainer, starts: list[Start]) -> TrainState:
    variables, masks, memories, _ = zip(*starts, strict=True)
    return trainer.init(stacked(variables), _stacked_masks(masks), stacked(memories))


def _masks_at_end(recipe: Recipe, state: TrainState, members: int) -> Iterable[Any]:
    """Each replica's mask where a rule has changed it. Else None, as it is that of a stage before."""
    if recipe.masking is None:
        return [None] * members
    return split(collective.fetch(state.mask))


def _stacked_masks(trees: Iterable[Any]) -> Any:
    """One tree of all masks. An axis that is size 1 in only some of them gets its full size."""
    return jax.tree.map(lambda *leaves: jnp.stack(jnp.broadcast_arrays(*leaves)), *trees)


def _own(spec: TrainingStage, member: Member) -> TrainingStage:
    return dataclasses.replace(spec, train=dataclasses.replace(spec.train, schedule=member.schedule))


def _epochs(job: Job, state: Any, before: dict[str, Any]) -> tuple[Any, list[History]]:
    """Train from where ``before`` stands to the end. Returns the course's final state and every replica's history."""
    context, course, epoch = job.context, job.course, before.get("epoch", 0)
    start = Halfway(before.get("step", 0), tuple(before.get("sums", ())))
    context.progress.begin(kind(job.spec), job.spec.train.epochs, epoch)
    if job.clock.ending():
        raise PreemptedError(f"asked to end before stage {kind(job.spec)}; {GO_ON}")
    going = course.going(state, epoch)
    histories = before.get("histories") or _measured(job, state, [[] for _ in job.members], 0, going, going)
    context.on_epoch(job.spec, job.members, histories)
    while going.any():
        keep = functools.partial(_keep, job, epoch, histories)
        state, trained = course.epoch(job.feed, state, epoch, start, job.clock.due, keep)
        start, epoch, went = Halfway(), epoch + 1, going
        state = _without_lost(job, state, trained["train_loss"], epoch)
        going = course.going(state, epoch)
        histories = _measured(job, state, histories, epoch, went, going, trained)
        value = float(np.mean([history[-1]["test_accuracy"] for history in histories]))
        context.progress.epoch(epoch, value, metric_of(job.spec.data))
        context.on_epoch(job.spec, job.members, histories)
        # Several replicas are published one by one: their common end is kept until the last one is out.
        if job.clock.due() or (not going.any() and len(job.members) > 1):
            _keep(job, epoch, histories, state, start)
    return state, histories


def _measured(
    job: Job,
    state: Any,
    histories: list[History],
    epoch: int,
    went: np.ndarray,
    going: np.ndarray,
    trained: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> list[History]:
    """The histories, with an entry more for each replica that ``went`` this epoch. ``going``: who goes on."""
    context, ends = job.context, bool((went & ~going).any())
    found = measure(job.trainer, job.course.network(state), context.data, context.measure, epoch, ends)
    new = entries({**trained, **found}, epoch=epoch)
    return [[*h, e] if more else h for h, e, more in zip(histories, new, went, strict=True)]


def _keep(job: Job, epoch: int, histories: list[History], state: Any, halfway: Halfway) -> None:
    """Begin to keep the state after ``epoch`` epochs and ``halfway``. PreemptedError where the run is to end."""
    if halfway.sums:
        _refuse_lost(job, np.asarray(halfway.sums), epoch + 1)
    steps = epoch * job.course.steps + halfway.step
    content = {
        "members": [member.id for member in job.members],
        "epoch": epoch,
        "step": halfway.step,
        "sums": list(halfway.sums),
        "data": job.feed.position(steps),
        "histories": histories,
        "seconds": job.clock.seconds(),
    }
    checkpoints.save(job.kept, steps, state, {**job.about, **content})
    job.clock.kept()
    if job.clock.ending():
        checkpoints.settle(job.kept)
        raise PreemptedError(
            f"asked to end: kept after epoch {epoch} of {job.spec.train.epochs} and {halfway.step} steps of stage "
            f"{kind(job.spec)}; {GO_ON}"
        )


def _without_lost(job: Job, state: Any, losses: np.ndarray, epoch: int) -> Any:
    """The state without the replicas whose loss is no longer finite. TrainingDivergedError where no run is left."""
    lost = ~np.isfinite(losses)
    if not lost.any():
        return state
    gone = [new or is_known(job.context.store, m.id) for m, new in zip(job.members, lost, strict=True)]
    if nothing_left(gone, [member.schedule for member in job.members]):
        _refuse_lost(job, losses, epoch)
    _tell_lost(job, losses, epoch)
    return emptied(state, lost)


def _refuse_lost(job: Job, losses: np.ndarray, epoch: int) -> None:
    """TrainingDivergedError for a loss that is not finite, of the first replica that has one."""
    told = _tell_lost(job, losses, epoch)
    if told:
        raise TrainingDivergedError(told[0])


def _tell_lost(job: Job, losses: np.ndarray, epoch: int) -> list[str]:
    """What is said of each replica whose loss is not finite, kept on disk."""
    if np.isfinite(losses).all():
        return []
    checkpoints.settle(job.kept)
    kept, spec, said = checkpoints.newest(job.kept), job.spec, []
    where = (
        f"the last good checkpoint, after epoch {kept['epoch']}, is kept in {job.kept.directory}"
        if kept
        else "no checkpoint of this stage was due yet; the stages before it are kept"
    )
    for member, loss in zip(job.members, losses, strict=True):
        if not math.isfinite(loss):
            said.append(
                f"train loss is {loss} in stage {kind(spec)} {member.id} (seed {member.seed}) at epoch {epoch} of "
                f"{spec.train.epochs} under LR {member.schedule}: lower the LR; {where}"
            )
            disk.save_diverged(job.context.store, member.id, said[-1])
    return said
