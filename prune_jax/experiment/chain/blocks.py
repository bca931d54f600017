"""The sparsifying action of granularity 'depth': whole blocks are scored, and the lowest go."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from prune_jax.experiment import depth, networks
from prune_jax.experiment.chain.evidence import mean_loss, training_batches
from prune_jax.experiment.networks import StageNetwork
from prune_jax.experiment.specs import DataSpec, ModelSpec, Sparsify
from prune_jax.experiment.training.cohort import Context, member_key
from prune_jax.experiment.training.step import floats
from prune_jax.pruning.depth import blocks_kept, similarity_scores, skipping_losses


def cut(context: Context, before: StageNetwork, spec: Sparsify, seed: int, number: str) -> StageNetwork:
    """The network without the blocks whose scores are lowest.

    Args:
        context: its data are looked at by criteria that need some.
        before: the network as it is.
        spec: of granularity 'depth'. Its ratio is of the dense network.
        seed: of the run's replica.
        number: '' of the chain's first sparsifying action, '/2' of its second.
    """
    ((name, _),) = spec.ratios
    dense = depth.whole(before.model)
    left = networks.widths_of(dense, spec.ratios)[name]
    batches = (
        [] if spec.evidence is None else training_batches(context.data, before.data, spec.evidence, seed)
    )
    key = member_key(seed, f"criterion{number}")
    scores = SCORES[spec.criterion](before, depth.path_of(name), list(batches), key)
    blocks = depth.then(before.blocks, name, blocks_kept(scores, min(left, len(scores))))
    small = depth.removed(before.variables, before.blocks, blocks)
    return before._replace(model=depth.at_depth(dense, blocks)[0], variables=small, blocks=blocks)


def _influence(network: StageNetwork, path: str, batches: list[Any], key: jax.Array) -> np.ndarray:
    """1 - cos(input, output): see ``similarity_scores``."""
    del path, key
    return similarity_scores(_streams(network.model, network.data), network.variables, batches)


def _skipping(network: StageNetwork, path: str, batches: list[Any], key: jax.Array) -> np.ndarray:
    """The loss without the block: see ``skipping_losses``."""
    del key
    count = networks.blocks_of(network.model, path)
    left, _ = depth.at_depth(network.model, {depth.name_of(path): count - 1})
    places = depth.places_of(network.variables, path)
    return skipping_losses(_loss(left, network.data), network.variables, batches, places)


def _random(network: StageNetwork, path: str, batches: list[Any], key: jax.Array) -> np.ndarray:
    """A control: uniform numbers."""
    del batches
    return np.asarray(jax.random.uniform(key, (networks.blocks_of(network.model, path),)))


def _last(network: StageNetwork, path: str, batches: list[Any], key: jax.Array) -> np.ndarray:
    """A control: the last blocks go. Source: Sajjad et al., 2023, arXiv 2004.03844 (top-layer dropping)."""
    del batches, key
    return -np.arange(networks.blocks_of(network.model, path), dtype=float)


Score = Callable[[StageNetwork, str, list[Any], jax.Array], np.ndarray]
SCORES: Mapping[str, Score] = MappingProxyType(
    {"block_influence": _influence, "skipping_loss": _skipping, "random": _random, "last": _last}
)


@functools.cache  # a memo: compiled once for all seeds
def _streams(model: ModelSpec, data: DataSpec) -> Callable[[Any, Any], Any]:
    streams = networks.network_of(model).streams
    assert streams is not None  # the config asks for it
    return lambda variables, batch: streams(variables, floats(data, batch[0]))


@functools.cache  # a memo: compiled once for all seeds
def _loss(model: ModelSpec, data: DataSpec) -> Callable[[Any, Any], jax.Array]:
    apply = networks.network_of(model).apply
    return mean_loss(lambda variables, batch: apply(variables, floats(data, batch[0])))
