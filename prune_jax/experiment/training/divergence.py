"""Replicas whose loss is no longer finite: said on disk, not trained again, no end of those beside them."""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.experiment.storage import stages as disk
from prune_jax.experiment.storage.stages import Store
from prune_jax.experiment.training.trainer import TrainState


class TrainingDivergedError(RuntimeError):
    """The loss of a stage is no longer finite."""


def refuse_known(store: Store, stage_ids: Iterable[str]) -> None:
    """TrainingDivergedError where one of the stages is known to diverge. Says how to have it trained again."""
    for stage_id in stage_ids:
        known = disk.read_diverged(store, stage_id)
        if known:
            message, file = known
            raise TrainingDivergedError(f"{message}; known from before: to train it again, remove {file}")


def is_known(store: Store, stage_id: str) -> bool:
    """Whether a stage is known to diverge."""
    return disk.read_diverged(store, stage_id) is not None


def nothing_left(lost: Sequence[bool], schedules: Sequence[str]) -> bool:
    """Whether every run, told by its schedule, has lost a replica, so that none of them can come to its record."""
    whole = set(schedules) - {schedule for schedule, gone in zip(schedules, lost, strict=True) if gone}
    return not whole


def emptied(state: TrainState, lost: np.ndarray) -> TrainState:
    """The state with zeros for each replica that is ``lost`` ``(R,)``: it computes on, and nothing breaks of it."""
    return _emptied(state, jnp.asarray(lost)) if lost.any() else state


@jax.jit
def _emptied(state: TrainState, lost: jax.Array) -> TrainState:
    def empty(leaf: jax.Array) -> jax.Array:
        return jnp.where(lost.reshape(-1, *[1] * (leaf.ndim - 1)), jnp.zeros((), leaf.dtype), leaf)

    return jax.tree.map(empty, state)
