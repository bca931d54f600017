"""The allocation 'sensitivity': a speedup is met by ratios at which every group alone does equal damage.

Damage is how much the loss over some training examples rises when a group alone loses a part of its channels
(``pruning.sensitivity``). A group's ratio at a level of damage is the largest whose damage is at most that. The level
is the smallest that meets the speedup. Where groups that cost nothing give more than is asked for, their ratios are
scaled down alike.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from prune_jax.experiment.chain.evidence import mean_loss, training_batches
from prune_jax.experiment.networks import StageNetwork
from prune_jax.experiment.specs import DataSpec, Gathering, ModelSpec, Sparsify
from prune_jax.experiment.training.inputs import Inputs
from prune_jax.experiment.training.step import floats
from prune_jax.experiment.twins import Channels, channels_of, network_at
from prune_jax.pruning import allocation
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.keep import Keep
from prune_jax.pruning.sensitivity import ratios_of_equal_damage, sensitivity, without_channels


def allocated(
    on: Inputs,
    network: StageNetwork,
    groups: Sequence[Group],
    spec: Sparsify,
    scores: Mapping[str, Any],
    seed: int,
) -> Callable[[float], Keep]:
    """A one-parameter family of keeps, from 0 (nothing goes) to 1 (all groups at the largest ratio measured).

    Args:
      on: the data. ``seed`` draws the examples from the training split.
      network: as it is now.
      groups: those that are pruned, of that network.
      spec: its ``sensitivity`` says the ratios and over how many examples.
      scores: of the groups' channels.
      seed: of the run's replica.

    Returns:
      ``keep(share)``, for ``allocation.to_speedup``.
    """
    how = spec.sensitivity
    assert how is not None  # the config gives it
    names = [group.name for group in groups]
    variables = jax.device_put(network.variables)  # once: what a group changes is all that is copied later
    without = without_channels(variables, groups, scores)
    found = sensitivity(loss_of(on, network, how.gathering, seed), variables, without, names, how.ratios)
    damage = found.values - found.dense
    highest = float(np.max(damage, initial=0.0, where=np.isfinite(damage)))

    def keep(share: float) -> Keep:
        level = max(2 * share - 1, 0.0) * highest if share < 1 else np.inf
        ratios = min(2 * share, 1.0) * ratios_of_equal_damage(damage, how.ratios, level)
        return {
            group.name: allocation.lowest(
                scores[group.name], allocation.pruned_count(group.size, ratio, round_to=spec.round_to)
            )
            for group, ratio in zip(groups, ratios, strict=True)
        }

    return keep


def loss_of(on: Inputs, network: StageNetwork, how: Gathering, seed: int) -> Callable[[Any], float]:
    """Mean cross-entropy (nats) of variables of a stage's network over training examples, in evaluation mode."""
    batches = list(training_batches(on, network.data, how, seed))
    loss = _compiled(network.model, channels_of(network.model, network.keep), network.data)
    return lambda variables: sum(float(loss(variables, batch)) for batch in batches) / len(batches)


@functools.cache  # a memo: compiled once for all seeds whose networks have equal shapes
def _compiled(model: ModelSpec, channels: Channels, data: DataSpec) -> Callable[..., jax.Array]:
    network = network_at(model, channels)

    return jax.jit(mean_loss(lambda variables, batch: network.apply(variables, floats(data, batch[0]))))
