"""The steps of an epoch fed to a trainer: from the device in one call, or batch by batch from a stream."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from prune_jax import data
from prune_jax.experiment.devices import mesh
from prune_jax.experiment.networks import steps_per_epoch
from prune_jax.experiment.training import inputs
from prune_jax.experiment.training.inputs import Inputs, StreamData
from prune_jax.experiment.training.masking import rule_of
from prune_jax.experiment.training.trainer import Recipe, Trainer, TrainState

IN_FLIGHT = 2  # steps handed to the device and not waited for: more would only heap up batches there
TOGETHER_EVERY = 16  # steps between two questions to the other processes


class Halfway(NamedTuple):
    """A place within an epoch: ``step`` of its steps are done, ``sums`` is each replica's sum of their losses."""

    step: int = 0
    sums: tuple[float, ...] = ()


# (state, epoch, learning rates (steps,), where to begin, whether to keep the state now, how it is kept)
#   -> (state, mean train loss float64 (R,))
RunEpoch = Callable[
    [TrainState, int, np.ndarray, Halfway, Callable[[], bool], Callable[[TrainState, Halfway], None]],
    tuple[TrainState, np.ndarray],
]


class Feed(NamedTuple):
    """``run`` trains an epoch. ``position(steps)`` is what a checkpoint keeps of the data after so many steps."""

    run: RunEpoch
    position: Callable[[int], dict[str, Any]]
    close: Callable[[], None]


def open_feed(
    trainer: Trainer,
    recipe: Recipe,
    on: Inputs,
    keys: jax.Array,
    seed: int,
    before: dict[str, Any],
    teacher: Any = None,
) -> Feed:
    """The feed of a cohort whose replicas draw from ``keys`` ``(R,)``. A stream draws its examples from ``seed``.

    ``before`` is a checkpoint's position, empty at the start. ``teacher`` are variables of every replica's own, where
    the recipe distils. Raises ValueError when the position is another stream's.
    """
    make = _streamed if isinstance(on, StreamData) else _whole
    return make(trainer, recipe, on, keys, seed, before, teacher)


def _whole(
    trainer: Trainer, recipe: Recipe, on: Any, keys: jax.Array, seed: int, before: Any, teacher: Any
) -> Feed:
    del seed, before  # an epoch on the device is one whole, drawn from the keys

    def run(state: TrainState, epoch: int, lrs: np.ndarray, *between: Any) -> tuple[TrainState, np.ndarray]:
        del between
        turns = _turns(recipe, epoch)
        state, loss = trainer.epoch(state, on, _fold_in(keys, epoch), lrs, turns, teacher)
        return state, np.asarray(loss, np.float64)

    return Feed(run, lambda steps: {}, lambda: None)


def _streamed(
    trainer: Trainer,
    recipe: Recipe,
    on: Any,
    keys: jax.Array,
    seed: int,
    before: dict[str, Any],
    teacher: Any,
) -> Feed:
    stream = inputs.open_part(on, recipe.data, recipe.batch_size, seed=seed, train=True)
    if before:
        stream.restore(before)
    batches = data.prefetch_to_device(stream, mesh.batch_sharding(mesh.placement(recipe.mesh)))
    steps = steps_per_epoch(on.train_size, recipe.batch_size)
    every = TOGETHER_EVERY if jax.process_count() > 1 else 1

    def run(
        state: TrainState,
        epoch: int,
        lrs: np.ndarray,
        start: Halfway,
        due: Callable[[], bool],
        keep: Callable[[TrainState, Halfway], None],
    ) -> tuple[TrainState, np.ndarray]:
        drawn, turns = _fold_in(keys, epoch), _turns(recipe, epoch)
        sums = np.asarray(start.sums or [0.0] * len(keys), np.float64)
        waiting: deque[jax.Array] = deque()
        for done in range(start.step + 1, steps + 1):
            images, labels = next(batches)
            turn = None if turns is None else turns[done - 1]
            key = _fold_in(drawn, done - 1)
            state, loss = trainer.step(state, images, labels, key, lrs[done - 1], turn, teacher)
            waiting.append(loss)
            sums = sum(_settled(waiting, IN_FLIGHT), sums)
            if done < steps and done % every == 0 and due():
                sums = sum(_settled(waiting, 0), sums)
                keep(state, Halfway(done, tuple(sums.tolist())))
        return state, sum(_settled(waiting, 0), sums) / steps

    def position(done: int) -> dict[str, Any]:
        return {**stream.state(), "step": done}  # batches are read ahead of the steps

    return Feed(run, position, stream.close)


def _turns(recipe: Recipe, epoch: int) -> np.ndarray | None:
    """The turns of the mask rule at an epoch's steps. None without a rule."""
    if recipe.masking is None:
        return None
    length = recipe.masking.epoch
    return rule_of(recipe.masking).turns[epoch * length : (epoch + 1) * length]


def _settled(waiting: deque[jax.Array], most: int) -> Iterator[np.ndarray]:
    while len(waiting) > most:
        yield np.asarray(waiting.popleft(), np.float64)


@jax.jit
def _fold_in(keys: jax.Array, number: int) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)
