"""The penalty of a regularised stage: from its spec and the channels that are left to what the optimiser takes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prune_jax.experiment import networks
from prune_jax.experiment.own import network as own_network
from prune_jax.experiment.own import parts as own_parts
from prune_jax.experiment.own.regularizer import KEY, regularizer_of
from prune_jax.experiment.specs import ModelSpec, Regularise
from prune_jax.experiment.twins import Channels, hashable, keep_of
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.keep import Keep
from prune_jax.pruning.regularizers.penalty import Penalty


class Pushing(NamedTuple):
    """What a compiled trainer depends on: the stage, without its data and schedule, and a keep.

    ``stage`` holds (regulariser, arguments, layers, ratios, round_to, source). ``channels``: those of the dense network
    that the network has as it is trained.
    """

    stage: tuple
    channels: Channels


def pushing_of(model: ModelSpec, spec: Regularise, keep: Keep) -> Pushing:
    """The penalty of a stage on a network with the channels of ``keep``, in a form that can be hashed.

    Networks that differ in which channels they kept, and not in how these are coupled, have one in common.
    """
    stage = (spec.regularizer, spec.arguments, spec.layers, spec.ratios, spec.round_to, spec.source)
    first = own_network.first({name: len(kept) for name, kept in keep.items()})
    alike = _coupled_alike(networks.groups_now(model, keep), networks.groups_now(model, first))
    return Pushing(stage, hashable(first if alike else keep))


def penalty_of(model: ModelSpec, pushing: Pushing | None) -> Penalty | None:
    """The penalty itself. None where training has none.

    Raises ValueError where a regulariser of the user's own has changed since the stage was named.
    """
    if pushing is None:
        return None
    name, arguments, layers, ratios, round_to, source = pushing.stage
    if source:
        own_parts.refuse_changed(name, KEY, source)
    wanted = frozenset(layers)
    groups = networks.groups_now(model, keep_of(pushing.channels))
    mine = [group for group in groups if group.name in wanted]
    regularizer = regularizer_of(name)
    if not regularizer.chooses:
        return regularizer.make(mine, **dict(arguments))
    widths = networks.widths_of(model, ratios, round_to)
    gone = {group.name: max(group.size - widths[group.name], 0) for group in mine if group.name in widths}
    return regularizer.make(mine, gone, **dict(arguments))


def _coupled_alike(one: Sequence[Group], other: Sequence[Group]) -> bool:
    """Whether all groups have their channels at the same places."""
    return all(
        np.array_equal(mine.index, theirs.index)
        for a, b in zip(one, other, strict=True)
        for mine, theirs in zip(a.members, b.members, strict=True)
    )
