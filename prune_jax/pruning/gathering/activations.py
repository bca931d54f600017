"""How large the activations of each group's channels are, in any network.

The walk over the jaxpr knows which axis of which array has a group's channels. Where the weight that
makes the channels meets the data, sums over all other axes of the result are read (``tapped``).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.coupling import Analysis, analyse
from prune_jax.pruning.gathering.tapped import Probe, Probes, is_open, run
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.jaxpr.values import Value, is_activation
from prune_jax.pruning.jaxpr.walk import Body, Node


class Activation(NamedTuple):
    """Size of one group's activations over all examples and positions: two float32 arrays (channels,).

    ``mean_abs`` is the mean of abs(a), ``norm`` the root of the sum of a ** 2.
    """

    mean_abs: Any
    norm: Any


class Sums(NamedTuple):
    """Sums over the entries of each channel, (channels,): of abs(a), of a ** 2, and of ones."""

    magnitude: Any
    square: Any
    count: Any


class _Tap(NamedTuple):
    """Where to read: an axis of one result of an equation, and the channel of each position on it (or -1)."""

    group: str
    size: int
    result: int
    axis: int
    channel: np.ndarray


class Sought(NamedTuple):
    """A group, the number of its producer's leaf, and its channel of each label (-1: none)."""

    group: Group
    leaf: int
    channel_of: np.ndarray


def channel_sums(apply: Callable, params: Any, groups: Sequence[Group], *inputs: Any) -> dict[str, Sums]:
    """Sums over what each prunable group's producer makes in ``apply(params, *inputs)``.

    Args:
      apply: any traceable network.
      params: pytree of arrays for which the groups were found.
      groups: from ``find_groups``. Frozen ones are left out.
      inputs: arrays, a batch of any size.

    Returns:
      Group name -> ``Sums``. Results before a bias or norm are meant, as the producing equation gives
      them. A weight that is used several times, or in every step of a scan, counts each time.

    Raises:
      ValueError: a producer isn't among the params, or no single array has a group's activations.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype), (params, *inputs))
    analysis = analyse(apply, *shapes)
    probes: Probes = {}
    for each in sought(analysis, groups):
        if not (
            _find(analysis.body, each, probes, strict=True)
            or _find(analysis.body, each, probes, strict=False)
        ):
            raise ValueError(
                f"group {each.group.name!r}: no array of the network has its activations, so they can't be "
                "measured; use a criterion that needs no activations"
            )
    return run(analysis.body, jax.tree.leaves((params, *inputs)), probes)[1]


def squared_means(apply: Callable, params: Any, groups: Sequence[Group], batch: Any) -> dict[str, Any]:
    """Sum over examples of (mean abs a) ** 2 of each channel, the mean over the positions of one example.

    Args:
      apply: ``apply(params, batch)``. Every example is given as a batch of one.
      params, groups: as for ``channel_sums``.
      batch: a pytree whose leaves have the examples on their first axis.

    Returns:
      Group name -> (channels,). Raises what ``channel_sums`` raises.
    """

    def means(example: Any) -> dict[str, Any]:
        one = jax.tree.map(lambda x: x[None], example)
        sums = channel_sums(apply, params, groups, one)
        return {name: each.magnitude / each.count for name, each in sums.items()}

    return jax.tree.map(lambda each: (each * each).sum(0), jax.vmap(means)(batch))


def activation_of(sums: Sums) -> Activation:
    """What the sums say of each channel."""
    return Activation(sums.magnitude / sums.count, jnp.sqrt(sums.square))


def sought(analysis: Analysis, groups: Sequence[Group]) -> list[Sought]:
    """What to look for of each group that can be pruned. ValueError for groups of other params."""
    slots = {(slot.path, slot.axis): slot for slot in analysis.slots}
    classes = analysis.classes
    out = []
    for group in groups:
        path, axis, index = group.producer
        slot = slots.get((path, axis))
        if group.frozen is not None:
            continue
        if slot is None or len(slot.labels) != len(index):
            raise ValueError(
                f"group {group.name!r} is made by axis {axis} of leaf {path!r} with {len(index)} positions, "
                "which these params don't have; find the groups for these params"
            )
        channel = np.full(len(classes.frozen), -1)
        channel[classes.of[slot.labels[index >= 0]]] = index[index >= 0]
        out.append(Sought(group, slot.leaf, channel[classes.of]))
    return out


def _find(body: Body, wanted: Sought, probes: Probes, *, strict: bool) -> bool:
    """Note every equation where the producer meets data, inner programs first. Whether there is one.

    Without ``strict``, weights that met other weights count as data, as learned queries need.
    """
    found = False
    for node in body.nodes:
        if not any(wanted.leaf in value.leaves for value in node.ins):
            continue
        inner = is_open(node) and _find(node.bodies[0], wanted, probes, strict=strict)
        tap = None if inner else _tap(node, wanted, strict)
        if tap is not None:
            probes.setdefault(id(node), []).append(Probe(tap.group, functools.partial(_sums, tap)))
        found |= inner or tap is not None
    return found


def _tap(node: Node, wanted: Sought, strict: bool) -> _Tap | None:
    def computed(value: Value) -> bool:
        return value.data if strict else is_activation(value)

    if not any(wanted.leaf in value.leaves and not computed(value) for value in node.ins):
        return None
    for result, value in enumerate(node.outs):
        for axis, labels in enumerate(value.axes if computed(value) else ()):
            channel = np.where(labels >= 0, wanted.channel_of[np.maximum(labels, 0)], -1)
            if len(np.unique(channel[channel >= 0])) == wanted.group.size:
                return _Tap(wanted.group.name, wanted.group.size, result, axis, channel)
    return None


def _sums(tap: _Tap, _: list[Any], outs: list[Any]) -> Sums:
    array = outs[tap.result]
    wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    rest = tuple(k for k in range(array.ndim) if k != tap.axis)
    mine = tap.channel >= 0

    def per_channel(along: Any) -> Any:
        return jnp.zeros(tap.size, along.dtype).at[tap.channel[mine]].add(along[mine])

    entries = jnp.full(len(tap.channel), array.size // len(tap.channel), wide.dtype)
    return Sums(*map(per_channel, (jnp.abs(wide).sum(rest), (wide * wide).sum(rest), entries)))
