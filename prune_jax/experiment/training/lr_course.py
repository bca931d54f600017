"""Which LR each replica trains at, and when it has ended: along a schedule, or until plateaus."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.experiment.networks import steps_per_epoch
from prune_jax.experiment.specs import TrainSpec
from prune_jax.experiment.training.feed import Feed
from prune_jax.experiment.training.inputs import DeviceData, Inputs
from prune_jax.experiment.training.plateau import PlateauState, plateau_start, plateau_step
from prune_jax.experiment.training.trainer import Trainer, TrainState
from prune_jax.schedules import LRSchedule


class Course(NamedTuple):
    """How a training stage of ``steps`` an epoch goes on. Its state is what a checkpoint keeps.

    Attributes:
        steps: of an epoch.
        begin: (train_state) -> state, before the first epoch.
        network: (state) -> train_state, what is trained.
        going: (state, epochs) -> bool (R,), which replicas train on after so many epochs.
        epoch: (feed, state, number, start, due, keep) -> (state, values), an epoch of training. The arguments are those
            of ``Feed.run``. Values are ``train_loss`` and ``lr``, float64 ``(R,)`` each. Under a plateau rule
            ``train_jsv``, which it watches, is one more.
    """

    steps: int
    begin: Callable[[TrainState], Any]
    network: Callable[[Any], TrainState]
    going: Callable[[Any, int], np.ndarray]
    epoch: Callable[..., tuple[Any, dict[str, np.ndarray]]]


class Extended(NamedTuple):
    """A training state and where each of its R replicas stands in the plateau rule."""

    train: TrainState
    plateau: PlateauState


def course_of(
    spec: TrainSpec, trainer: Trainer, data: Inputs, schedules: Sequence[str], stops: bool = False
) -> Course:
    """The course of a training stage.

    Args:
        spec: how the stage trains, but for the LR schedule.
        trainer: the compiled functions.
        data: what it trains on.
        schedules: the LR schedule of each replica.
        stops: whether the rule of a penalty may end a replica before its schedule does.

    Raises:
        ValueError: a plateau rule has streamed data, or replicas with several schedules.
    """
    steps = steps_per_epoch(data.train_size, spec.batch_size)
    if spec.extend is None:
        return _scheduled(spec, steps, schedules, trainer.ended if stops else None)
    if not isinstance(data, DeviceData):
        raise ValueError("retrain.extend is 'plateau', whose rule looks at training examples on the device")
    if len(set(schedules)) > 1:
        raise ValueError(f"retrain.extend is 'plateau', and replicas have several schedules: {schedules}")
    return _until_plateaus(spec, trainer, data, steps, len(schedules))


def _scheduled(
    spec: TrainSpec,
    steps: int,
    schedules: Sequence[str],
    ended: Callable[[TrainState], jax.Array] | None = None,
) -> Course:
    lrs = np.stack([_rates(text, spec.epochs, steps) for text in schedules], axis=1)  # (epochs, replicas)
    shared = len(set(schedules)) == 1

    def epoch(feed: Feed, state: TrainState, number: int, *how: Any) -> tuple[TrainState, dict]:
        now = lrs[number]
        each = np.repeat(now[0], steps) if shared else np.repeat(now[:, None], steps, axis=1)
        over = ~going(state, number)
        old = _copy(state) if over.any() else None
        state, losses = feed.run(state, number, each, *how)
        state = state if old is None else _unless(jnp.asarray(over), state, old)
        return state, _values(train_loss=losses, lr=now)

    def going(state: TrainState, epochs: int) -> np.ndarray:
        left = np.repeat(epochs < spec.epochs, len(schedules))
        return left if ended is None else left & ~np.asarray(ended(state))

    return Course(steps, lambda state: state, lambda state: state, going, epoch)


def _rates(text: str, epochs: int, steps: int) -> np.ndarray:
    schedule = LRSchedule.parse(text, epochs).optax(steps)
    return np.asarray([float(schedule(epoch * steps)) for epoch in range(epochs)], np.float32)


def _until_plateaus(spec: TrainSpec, trainer: Trainer, data: DeviceData, steps: int, replicas: int) -> Course:
    stages = LRSchedule.parse(spec.schedule, spec.epochs).stages
    rates = np.asarray([lr for _, _, lr in stages], np.float32)
    rule, longest = spec.extend, tuple(end - start for start, end, _ in stages)
    assert rule is not None
    watched = data.train_images[: rule.examples]
    judge = jax.jit(jax.vmap(functools.partial(plateau_step, rule=rule, longest=longest)))

    def epoch(feed: Feed, state: Extended, number: int, *how: Any) -> tuple[Extended, dict]:
        plateau = jax.device_get(state.plateau)
        lr, old = rates[plateau.stage], _copy(state.train) if plateau.done.any() else None
        new, losses = feed.run(state.train, number, np.repeat(lr[:, None], steps, axis=1), *how)
        train = new if old is None else _unless(plateau.done, new, old)
        jsv = np.asarray(trainer.jsv(train, watched)).mean((1, 2))
        state = Extended(train, judge(plateau, losses.astype(np.float32), jsv))
        return state, _values(train_loss=losses, lr=lr, train_jsv=jsv)

    def going(state: Extended, _: int) -> np.ndarray:
        return ~np.asarray(state.plateau.done)

    def begin(train: TrainState) -> Extended:
        start = plateau_start()
        return Extended(train, jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (replicas,)), start))

    return Course(steps, begin, lambda state: state.train, going, epoch)


@jax.jit
def _copy(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, state)


@jax.jit
def _unless(done: jax.Array, new: TrainState, old: TrainState) -> TrainState:
    """Take each replica's new state, or its old one where ``done`` ``(R,)`` says that it has ended."""

    def choose(before: jax.Array, now: jax.Array) -> jax.Array:
        return jnp.where(done.reshape(-1, *[1] * (now.ndim - 1)), before, now)

    return jax.tree.map(choose, old, new)


def _values(lr: Any, **others: Any) -> dict[str, np.ndarray]:
    """On the host in float64, an LR with the digits that float32 holds."""
    out = {name: np.asarray(value, np.float64) for name, value in others.items()}
    return {**out, "lr": np.asarray([float(f"{rate:.6g}") for rate in np.asarray(lr)])}
