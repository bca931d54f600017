"""What is measured after an epoch, for every replica at once, and of a network that a finished stage holds."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from prune_jax import fairness, trainability
from prune_jax.experiment.networks import StageNetwork
from prune_jax.experiment.specs import Measure
from prune_jax.experiment.training.inputs import Inputs
from prune_jax.experiment.training.judging import jacobian_of
from prune_jax.experiment.training.trainer import Trainer, TrainState, each_variables
from prune_jax.experiment.twins import channels_of, keep_of, network_at
from prune_jax.fairness.jsv import BINS_PER_DECADE
from prune_jax.trainability import singular_values

TOGETHER = 128  # examples of which Jacobians are formed at once: it bounds memory
JACOBIAN = ("mean_jsv", "mean_jsv_error", "spectrum")  # what an entry may say of it


def measure(
    trainer: Trainer, state: TrainState, data: Inputs, asked: Measure, epoch: int, ends: bool = False
) -> dict[str, Any]:
    """Each replica's ``test_accuracy`` and, when it is due, what ``asked`` wants of the Jacobian.

    The accuracy is a percentage. For a text the value is bits per byte.

    The Jacobian is measured before the first epoch, after every ``asked.jsv_every``-th and where one ``ends``.
    """
    out: dict[str, Any] = {"test_accuracy": np.asarray(trainer.accuracy(state, data), np.float64).round(6)}
    if not asked.jsv_examples or (epoch % asked.jsv_every and not ends):
        return out
    images = data.test_images[: asked.jsv_examples]
    if asked.jsv_budget:
        out["jacobian"] = [_estimated(network, images, asked) for network in _networks(trainer, state)]
    else:
        parts = [trainer.jsv(state, part) for part in _parts(images)]
        values = np.concatenate([np.asarray(part, np.float64) for part in parts], axis=1)
        out["jacobian"] = [_describe(mine, asked) for mine in values]
    return out


def entries(values: Mapping[str, Any], **shared: Any) -> list[dict[str, Any]]:
    """One history entry per replica: its value of each measurement, and what all replicas share."""
    replicas = len(next(iter(values.values())))
    return [{**shared, **_of_replica(values, i)} for i in range(replicas)]


def jacobian_entry(network: StageNetwork, images: jax.Array, asked: Measure) -> dict[str, Any]:
    """What ``asked`` wants of the Jacobian of a stage's network, on uint8 images ``(n, h, w, c)``."""
    if asked.jsv_budget:
        return _estimated(network, images, asked)
    function, inputs = _jacobian_of(network, images)
    return _entry(trainability.spectrum(function, _parts(inputs)), asked)


def summary(spectrum: trainability.Spectrum) -> fairness.JSVSummary:
    """A spectrum as a record keeps it."""
    pooled, resolved = spectrum.pooled, spectrum.values[np.isfinite(spectrum.values)]
    bins = np.floor(np.log10(resolved) * BINS_PER_DECADE).astype(int)
    first = int(bins.min()) if len(bins) else None
    return fairness.JSVSummary(
        examples=len(spectrum.rank),
        mean=float(pooled.mean),
        mean_error=_stated(spectrum.errors.mean),
        std=_stated(pooled.std),
        maximum=_stated(pooled.max),
        minimum=_stated(pooled.min),
        condition=_stated(_mean_of_finite(spectrum.per_example.condition)),
        resolved=int(spectrum.rank.sum()),
        unresolved=int(spectrum.unresolved.sum()),
        isometry_gap=_stated(pooled.isometry_gap),
        first_bin=first,
        counts=() if first is None else tuple(np.bincount(bins - first).astype(float).tolist()),
    )


def _networks(trainer: Trainer, state: TrainState) -> list[StageNetwork]:
    """Each replica's network on its own."""
    recipe = trainer.recipe
    keep = keep_of(recipe.channels)
    return [StageNetwork(recipe.model, recipe.data, variables, keep) for variables in each_variables(state)]


def _jacobian_of(network: StageNetwork, images: jax.Array) -> tuple[jax.tree_util.Partial, jax.Array]:
    found = network_at(network.model, channels_of(network.model, network.keep))
    return jacobian_of(found, network.data, network.variables, images)


def _estimated(network: StageNetwork, images: jax.Array, asked: Measure) -> dict[str, Any]:
    """The mean JSV of all the images at a budget. The same draws every time, so that a curve is one of the network."""
    function, inputs = _jacobian_of(network, images)
    found = trainability.mean_jsv_estimate(function, inputs, budget=asked.jsv_budget, key=jax.random.key(0))
    entry, error = {"mean_jsv": float(found.value)}, _stated(found.error)
    return entry if error is None else {**entry, "mean_jsv_error": error}


def _describe(values: np.ndarray, asked: Measure) -> dict[str, Any]:
    """What ``asked`` wants of singular values ``(n, r)`` of float32 Jacobians."""
    share = singular_values.resolution("auto", np.dtype(np.float32))
    return _entry(trainability.summarize(values, resolution=share), asked)


def _entry(spectrum: trainability.Spectrum, asked: Measure) -> dict[str, Any]:
    said = summary(spectrum)
    entry: dict[str, Any] = {"mean_jsv": said.mean}
    if said.mean_error is not None:
        entry["mean_jsv_error"] = said.mean_error
    if asked.jsv == "spectrum":
        entry["spectrum"] = dataclasses.asdict(said)
    return entry


def _of_replica(values: Mapping[str, Any], i: int) -> dict[str, Any]:
    mine = {name: value[i] for name, value in values.items()}
    jacobian = mine.pop("jacobian", {})
    return {**{name: float(value) for name, value in mine.items()}, **jacobian}


def _parts(images: jax.Array) -> list[jax.Array]:
    """The images in equal parts (but for the last) of at most ``TOGETHER``: one shape to compile for."""
    size = -(-len(images) // -(-len(images) // TOGETHER))
    return [images[start : start + size] for start in range(0, len(images), size)]


def _mean_of_finite(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _stated(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
