"""The functions that a cut network runs as: its own code where that is right at its sizes, else a twin.

Most code reads its sizes off its arrays, so the dense network's functions run on small variables too. Some code fixes
them: Linen modules, reshapes to a number of heads, the zero-padded shortcuts of a CIFAR ResNet. For such a network the
dense function is traced and evaluated again at the sizes that are left (``surgery.slim``). A twin depends on which
channels stay, not on their number alone, so seeds that kept different channels are compiled apart.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from prune_jax import models
from prune_jax.experiment import networks
from prune_jax.experiment.networks import StageNetwork
from prune_jax.experiment.own import network as own_network
from prune_jax.experiment.own import parts as own_parts
from prune_jax.experiment.specs import ModelSpec
from prune_jax.pruning import surgery
from prune_jax.pruning.keep import Keep

Channels = tuple[tuple[str, tuple[int, ...]], ...]
"""Which channels of the dense network a twin has: a keep that can be hashed. Empty: the network's own code runs."""

RELATIVE = 1e-4  # own code and twin add up the same numbers in another order, in float32


def channels_of(model: ModelSpec, keep: Keep) -> Channels:
    """What a trainer must know of ``keep`` to run its network: nothing where the network's own code is right."""
    widths = tuple(sorted((name, len(kept)) for name, kept in keep.items()))
    if _own_code_runs(model, widths):
        return ()
    return hashable(keep)


@functools.cache  # a memo of a pure function, so that what JAX compiled for a network is found again
def network_at(model: ModelSpec, channels: Channels) -> models.Network:
    """The network that runs on variables with these ``channels``, itself with the dense abstract variables."""
    dense = networks.network_of(model)
    if not channels:
        return dense
    groups = networks.groups_of(model)
    keep = keep_of(channels)

    def twin(function: Any, variables: Any, *inputs: Any) -> Any:
        like = jax.tree.map(lambda a, b: jax.ShapeDtypeStruct(a.shape, b.dtype), dense.variables, variables)
        shapes = [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in inputs]
        return surgery.slim(function, like, groups, keep, *shapes)(variables, *inputs)

    def apply(variables: Any, x: jax.Array) -> jax.Array:
        return twin(dense.apply, variables, x)

    def apply_train(variables: Any, x: jax.Array, key: jax.Array | None = None) -> Any:
        return twin(dense.apply_train, variables, x, jax.random.key(0) if key is None else key)

    return models.Network(dense.variables, apply, apply_train)


def hashable(keep: Keep) -> Channels:
    """A keep that can be hashed."""
    return tuple((name, tuple(np.asarray(kept).tolist())) for name, kept in sorted(keep.items()))


def keep_of(channels: Channels) -> Keep:
    """The keep that ``channels_of`` was given, of a twin."""
    return {name: np.asarray(kept) for name, kept in channels}


def evaluated(network: StageNetwork) -> jax.tree_util.Partial:
    """Floats ``(n, h, w, c)``, normalised, to logits ``(n, K)`` in evaluation mode. Equal networks compile once."""
    return jax.tree_util.Partial(network_of(network).apply, network.variables)


def network_of(network: StageNetwork) -> models.Network:
    """The functions that a stage's network runs as."""
    return network_at(network.model, channels_of(network.model, network.keep))


@functools.cache  # a memo of a pure function of frozen arguments: every seed and round asks again
def _own_code_runs(model: ModelSpec, widths: tuple[tuple[str, int], ...]) -> bool:
    """Whether the network's own code is right with so many channels left in each group, whichever they are."""
    sizes = {group.name: group.size for group in networks.groups_of(model)} if widths else {}
    if all(width == sizes[name] for name, width in widths):
        return True
    if not own_parts.is_own(model.name):
        return networks.has_widths(model, widths)
    return _own_code_agrees(
        model, {name: np.arange(sizes[name] - width, sizes[name]) for name, width in widths}
    )


def refuse_unfit(model: ModelSpec, widths: Mapping[str, int]) -> None:
    """Raise ValueError, in one line, where a network of the user's own can't be run with these ``widths``."""
    if not own_parts.is_own(model.name):
        return
    variables, key = networks.small_variables(model, widths), jax.eval_shape(lambda: jax.random.key(0))
    x = jax.ShapeDtypeStruct((2, *model.input_shape), "float32")
    try:
        network = network_at(model, channels_of(model, own_network.first(widths)))
        jax.eval_shape(network.apply, variables, x)
        jax.eval_shape(network.apply_train, variables, x, key)
    except (ValueError, NotImplementedError) as error:
        raise ValueError(
            f"{own_network.KEY} is {model.name!r}, which can't run with channels cut out, as "
            f"{', '.join(sorted(widths))} will be: {error}; leave layers out of sparsify.layers, or prune single "
            "weights (sparsify.granularity='unstructured')"
        ) from error


def _own_code_agrees(model: ModelSpec, keep: Keep) -> bool:
    """Whether a user's code gives on cut random variables what the twin gives.

    That it runs is not enough: a reshape to four heads runs with two of them cut, and mixes the channels. The last
    channels stay in this trial, so that code which counts its channels from the first shows too.
    """
    dense = own_network.fresh_variables(model, jax.random.key(0))
    small = surgery.shrink(dense, networks.groups_of(model), keep)
    x = jax.random.normal(jax.random.key(1), (2, *model.input_shape))
    own, twin = networks.network_of(model), network_at(model, hashable(keep))
    try:
        got = jax.jit(own.apply)(small, x)
        jax.eval_shape(own.apply_train, small, x, jax.random.key(0))
    except ValueError:
        return False
    wanted = jax.jit(twin.apply)(small, x)
    return bool(np.allclose(got, wanted, rtol=RELATIVE, atol=RELATIVE * float(np.abs(wanted).max())))
