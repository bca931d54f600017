"""Recovery, the named last part of a sparsifying action: what is done to the network that is left, without training."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from prune_jax.experiment import networks
from prune_jax.experiment.chain.evidence import training_batches
from prune_jax.experiment.networks import StageNetwork
from prune_jax.experiment.specs import Sparsify
from prune_jax.experiment.training.cohort import Context, member_key
from prune_jax.experiment.training.step import floats
from prune_jax.experiment.twins import channels_of, network_at
from prune_jax.pruning import masks, recovery
from prune_jax.pruning.recalibration import recalibrate


class Action(NamedTuple):
    """What a recovery may look at: the network as it was cut, the action's spec, data, the replica's seed.

    ``number`` is '' of the chain's first sparsifying action and '/2' of its second.
    """

    context: Context
    network: StageNetwork
    spec: Sparsify
    seed: int
    number: str


def recovered(action: Action) -> StageNetwork:
    """The network after the recovery that the spec names."""
    return RECOVERIES[action.spec.recovery](action)


def _none(action: Action) -> StageNetwork:
    return action.network


def _orthp(action: Action) -> StageNetwork:
    network, spec = action.network, action.spec
    if spec.recovery_version != recovery.VERSION:
        raise ValueError(
            f"recovery_version is {spec.recovery_version}; this release computes version {recovery.VERSION}: "
            "take the stage from its store, or leave the field to the config"
        )
    params = recovery.orthp(network.variables["params"], gain=spec.recovery_gain, mask=network.mask)
    return network._replace(variables={**network.variables, "params": params})


def _rescale(action: Action) -> StageNetwork:
    """The control of OrthP that leaves directions as they are: each kernel times one number."""
    network = action.network
    params = recovery.rescale(network.variables["params"], gain=action.spec.recovery_gain, mask=network.mask)
    return network._replace(variables={**network.variables, "params": params})


def _recalibrate(action: Action) -> StageNetwork:
    """New statistics of batch norm, averages over training batches. No weight changes."""
    network, how = action.network, action.spec.recalibration
    assert how is not None  # the config gives it
    made = network_at(network.model, channels_of(network.model, network.keep))
    key = member_key(action.seed, f"recalibrate{action.number}")

    def train_apply(variables: Any, batch: tuple[jax.Array, jax.Array]) -> dict[str, Any]:
        _, stats = made.apply_train(variables, floats(network.data, batch[0]), key)
        return {"batch_stats": stats}

    batches = training_batches(action.context.data, network.data, how, action.seed)
    return network._replace(variables=recalibrate(train_apply, network.variables, batches))


def _reinit(action: Action) -> StageNetwork:
    """The control: the same architecture at random weights, drawn by the law of its own size.

    A mask is held, no value is kept.
    """
    network = action.network
    key = member_key(action.seed, f"reinit{action.number}")
    widths = {name: len(kept) for name, kept in network.keep.items()}
    fresh = networks.fresh(network.model, widths or None, key)
    if network.mask is not None:
        fresh = {**fresh, "params": masks.apply_mask(fresh["params"], network.mask)}
    return network._replace(variables=fresh)


RECOVERIES: Mapping[str, Callable[[Action], StageNetwork]] = MappingProxyType(
    {"none": _none, "orthp": _orthp, "recalibrate": _recalibrate, "reinit": _reinit, "rescale": _rescale}
)
