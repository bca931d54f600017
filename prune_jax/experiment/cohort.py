"""Replicas of one training stage, trained together: resumed, measured, checkpointed, published."""

import dataclasses
import hashlib
import math
import time
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.experiment import store as disk
from prune_jax.experiment.measuring import entries, measure
from prune_jax.experiment.progress import Progress
from prune_jax.experiment.specs import Measure, Pretrain, Retrain, Scratch, kind, stated
from prune_jax.experiment.train import DeviceData, Trainer, TrainState, steps_per_epoch
from prune_jax.schedules import LRSchedule

TrainingStage = Pretrain | Retrain | Scratch
History = list[dict[str, Any]]


class Member(NamedTuple):
    """One replica: its seed, its stage's id and its parent stage's id."""

    seed: int
    id: str
    parent: str | None


class Context(NamedTuple):
    """What every stage of a run shares."""

    store: disk.Store
    data: DeviceData
    measure: Measure
    checkpoint_seconds: float
    progress: Progress
    # (spec, members, their histories so far): called as a cohort begins and after every epoch, before it is saved
    on_epoch: Callable[[Any, tuple[Member, ...], list[History]], None] = lambda *_: None


class TrainingDivergedError(RuntimeError):
    """The loss of a stage is no longer finite."""


def member_key(seed: int, purpose: str) -> jax.Array:
    """The PRNG key of one seed for one purpose ('init', or a stage's kind)."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))


def cohort_id(members: tuple[Member, ...]) -> str:
    """16 hex digits naming replicas that train together: what their common checkpoint is stored under."""
    return hashlib.sha256(" ".join(member.id for member in members).encode()).hexdigest()[:16]


def is_finished(context: Context, stage_id: str) -> bool:
    """Whether a stage is on disk; what of it is measured, and how, makes no difference."""
    return disk.read_stage(context.store, stage_id) is not None


def train_cohort(
    context: Context,
    spec: TrainingStage,
    members: tuple[Member, ...],
    trainer: Trainer,
    initial: Callable[[Member], Any],
) -> None:
    """Bring every member's stage to its end on disk; finished ones are left alone.

    ``initial(member)`` gives the variables to start from. An unfinished cohort goes on from its last
    checkpoint with exactly the members it had, so that it ends bit-identical to an uninterrupted one.
    Raises TrainingDivergedError when a loss is not finite.
    """
    cohort = cohort_id(members)
    before = disk.read_partial(context.store, cohort)
    if before is not None and Measure(**before["measure"]) != context.measure:
        disk.drop_partial(context.store, cohort)  # measured otherwise: its curve would have a gap
        before = None
    wanted = None if before is None else set(before["members"])
    todo = tuple(
        m for m in members if (m.id in wanted if wanted is not None else not is_finished(context, m.id))
    )
    if todo:
        _train(context, spec, cohort, todo, trainer, initial, before)


def _train(
    context: Context,
    spec: TrainingStage,
    cohort: str,
    members: tuple[Member, ...],
    trainer: Trainer,
    initial: Callable[[Member], Any],
    before: dict[str, Any] | None,
) -> None:
    epochs = spec.train.epochs
    state = trainer.init(jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(initial, members)))
    if before is None:
        first = measure(trainer, state, context.data, context.measure, 0, epochs)
        epoch, histories, seconds = 0, [[entry] for entry in entries(first, epoch=0)], 0.0
    else:
        state = disk.load_partial(context.store, cohort, jax.eval_shape(lambda: state))
        epoch, histories, seconds = before["epoch"], before["histories"], before["seconds"]
    about = {"kind": kind(spec), "spec": stated(spec), "measure": dataclasses.asdict(context.measure)}
    lrs = _learning_rates(spec, len(context.data.train_labels))
    keys = jnp.stack([member_key(member.seed, kind(spec)) for member in members])
    started = saved = time.monotonic()
    context.progress.begin(kind(spec), epochs, epoch)
    context.on_epoch(spec, members, histories)
    while epoch < epochs:
        state, loss = trainer.epoch(state, context.data, _epoch_keys(keys, epoch), lrs[epoch])
        epoch += 1
        losses = np.asarray(loss, np.float64)
        _refuse_nan(context, spec, cohort, members, losses, epoch)
        values = {
            "train_loss": losses,
            **measure(trainer, state, context.data, context.measure, epoch, epochs),
        }
        new = entries(values, epoch=epoch, lr=float(f"{lrs[epoch - 1][0]:.6g}"))
        histories = [[*history, entry] for history, entry in zip(histories, new, strict=True)]
        context.progress.epoch(epoch, float(np.mean(values["test_accuracy"])))
        context.on_epoch(spec, members, histories)
        # Several replicas are published one by one: their common end is kept until the last one is out.
        to_publish = epoch == epochs and len(members) > 1
        if time.monotonic() - saved >= context.checkpoint_seconds or to_publish:
            spent = seconds + time.monotonic() - started
            content = {"members": [m.id for m in members], "histories": histories, "seconds": spent}
            disk.save_partial(context.store, cohort, epoch, state, {**about, **content})
            saved = time.monotonic()
    timing = {"seconds": seconds + time.monotonic() - started, "together": len(members)}
    for i, (member, history) in enumerate(zip(members, histories, strict=True)):
        variables = jax.tree.map(lambda leaf, i=i: leaf[i], variables_of(state))
        mine = {"seed": member.seed, "parent": member.parent, "history": history}
        disk.save_stage(context.store, member.id, variables, {**about, **mine, **timing})
    disk.drop_partial(context.store, cohort)


def variables_of(state: TrainState) -> dict[str, Any]:
    """Parameters and batch statistics of a training state, as a network takes them."""
    return {"params": state.params, "batch_stats": state.batch_stats}


def _learning_rates(spec: TrainingStage, examples: int) -> np.ndarray:
    """The optax schedule, step by step: float32 ``(epochs, steps)``; it moves between epochs only."""
    steps = steps_per_epoch(examples, spec.train.batch_size)
    schedule = LRSchedule.parse(spec.train.schedule, spec.train.epochs).optax(steps)
    values = [float(schedule(epoch * steps)) for epoch in range(spec.train.epochs)]
    return np.repeat(np.asarray(values, np.float32)[:, None], steps, axis=1)


@jax.jit
def _epoch_keys(keys: jax.Array, epoch: int) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (0, None))(keys, epoch)


def _refuse_nan(
    context: Context,
    spec: TrainingStage,
    cohort: str,
    members: tuple[Member, ...],
    losses: np.ndarray,
    epoch: int,
) -> None:
    lost = [m for m, loss in zip(members, losses, strict=True) if not math.isfinite(loss)]
    if not lost:
        return
    kept = disk.read_partial(context.store, cohort)
    where = (
        f"the last good checkpoint, after epoch {kept['epoch']}, is kept in {context.store.root / 'partial' / cohort}"
        if kept
        else "no checkpoint of this stage was due yet; the stages before it are kept"
    )
    raise TrainingDivergedError(
        f"train loss is {losses[members.index(lost[0])]} in stage {kind(spec)} {lost[0].id} (seed {lost[0].seed}) "
        f"at epoch {epoch} of {spec.train.epochs} under LR {spec.train.schedule}: lower the LR; {where}"
    )
