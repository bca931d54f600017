"""How large the activations of each group's channels are, in any network.

The walk over the jaxpr knows which axis of which array has a group's channels. Here the program is
run with real numbers, and where the weight that makes the channels meets the data, sums over all
other axes of the result are taken along. Nothing is registered on layers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from prune_jax.pruning.coupling import Analysis, analyse
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.jaxpr.rules_control import CALLS, scan_counts
from prune_jax.pruning.jaxpr.values import Value, is_activation
from prune_jax.pruning.jaxpr.walk import Body, Node
from prune_jax.pruning.slimming.resize import bind


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


class _Sought(NamedTuple):
    """A group, the number of its producer's leaf, and its channel of each label (-1: none)."""

    group: Group
    leaf: int
    channel_of: np.ndarray


Taps = dict[int, list[_Tap]]  # id of a node -> what to read of its results


def channel_sums(apply: Callable, params: Any, groups: Sequence[Group], *inputs: Any) -> dict[str, Sums]:
    """Sums over what each prunable group's producer makes in ``apply(params, *inputs)``.

    Args:
      apply: any traceable network.
      params: pytree of arrays for which the groups were found.
      groups: from ``find_groups``; frozen ones are left out.
      inputs: arrays, a batch of any size.

    Returns:
      Group name -> ``Sums``. Results before a bias or norm are meant, as the producing equation gives
      them. A weight that is used several times, or in every step of a scan, counts each time.

    Raises:
      ValueError: a producer isn't among the params, or no single array has a group's activations.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype), (params, *inputs))
    analysis = analyse(apply, *shapes)
    taps: Taps = {}
    for sought in _sought(analysis, groups):
        if not (
            _find(analysis.body, sought, taps, strict=True)
            or _find(analysis.body, sought, taps, strict=False)
        ):
            raise ValueError(
                f"group {sought.group.name!r}: no array of the network has its activations, so they can't be "
                "measured; use a criterion that needs no activations"
            )
    return _run(analysis.body, jax.tree.leaves((params, *inputs)), taps)[1]


def activation_of(sums: Sums) -> Activation:
    """What the sums say of each channel."""
    return Activation(sums.magnitude / sums.count, jnp.sqrt(sums.square))


def _sought(analysis: Analysis, groups: Sequence[Group]) -> list[_Sought]:
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
        out.append(_Sought(group, slot.leaf, channel[classes.of]))
    return out


def _find(body: Body, sought: _Sought, taps: Taps, *, strict: bool) -> bool:
    """Note every equation where the producer meets data; inner programs first. Whether there is one.

    Without ``strict``, weights that met other weights count as data, as learned queries need.
    """
    found = False
    for node in body.nodes:
        if not any(sought.leaf in value.leaves for value in node.ins):
            continue
        inner = _is_open(node) and _find(node.bodies[0], sought, taps, strict=strict)
        tap = None if inner else _tap(node, sought, strict)
        if tap is not None:
            taps.setdefault(id(node), []).append(tap)
        found |= inner or tap is not None
    return found


def _is_open(node: Node) -> bool:
    """Whether the equation's program can be run step by step here; loops of unknown length can't."""
    return bool(node.bodies) and node.eqn.primitive.name in (*CALLS, "scan")


def _tap(node: Node, sought: _Sought, strict: bool) -> _Tap | None:
    def computed(value: Value) -> bool:
        return value.data if strict else is_activation(value)

    if not any(sought.leaf in value.leaves and not computed(value) for value in node.ins):
        return None
    for result, value in enumerate(node.outs):
        for axis, labels in enumerate(value.axes if computed(value) else ()):
            channel = np.where(labels >= 0, sought.channel_of[np.maximum(labels, 0)], -1)
            if len(np.unique(channel[channel >= 0])) == sought.group.size:
                return _Tap(sought.group.name, sought.group.size, result, axis, channel)
    return None


def _sums(tap: _Tap, array: Any) -> Sums:
    wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    rest = tuple(k for k in range(array.ndim) if k != tap.axis)
    mine = tap.channel >= 0

    def per_channel(along: Any) -> Any:
        return jnp.zeros(tap.size, along.dtype).at[tap.channel[mine]].add(along[mine])

    entries = jnp.full(len(tap.channel), array.size // len(tap.channel), wide.dtype)
    return Sums(*map(per_channel, (jnp.abs(wide).sum(rest), (wide * wide).sum(rest), entries)))


def _added(one: Mapping[str, Sums], other: Mapping[str, Sums]) -> dict[str, Sums]:
    both = {name: jax.tree.map(jnp.add, one[name], other[name]) for name in one if name in other}
    return {**one, **other, **both}


def _run(body: Body, args: list[Any], taps: Taps) -> tuple[list[Any], dict[str, Sums]]:
    """Results of a walked program on arrays, and the sums that were read on the way."""
    env: dict[Any, Any] = dict(zip(body.jaxpr.invars, args, strict=True))
    env.update(zip(body.jaxpr.constvars, body.consts, strict=True))
    sums: dict[str, Sums] = {}

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else env[atom]

    for node in body.nodes:
        outs, more = _step(node, [read(atom) for atom in node.eqn.invars], taps)
        env.update(zip(node.eqn.outvars, outs, strict=False))
        sums = _added(sums, more)
        for tap in taps.get(id(node), ()):
            sums = _added(sums, {tap.group: _sums(tap, outs[tap.result])})
    return [read(atom) for atom in body.jaxpr.outvars], sums


def _step(node: Node, ins: list[Any], taps: Taps) -> tuple[list[Any], dict[str, Sums]]:
    if not (_is_open(node) and _has_tap(node.bodies[0], taps)):
        return bind(node.eqn, ins), {}
    if node.eqn.primitive.name != "scan":
        return _run(node.bodies[0], ins, taps)
    p = node.eqn.params
    n, carried = scan_counts(node.eqn)

    def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], Any]:
        outs, sums = _run(node.bodies[0], [*ins[:n], *carry, *x], taps)
        return outs[:carried], (outs[carried:], sums)

    first, scanned = ins[n : n + carried], ins[n + carried :]
    carry, (ys, sums) = lax.scan(step, first, scanned, p["length"], p["reverse"], p["unroll"])
    return [*carry, *ys], jax.tree.map(lambda steps: steps.sum(0), sums)


def _has_tap(body: Body, taps: Taps) -> bool:
    return any(id(node) in taps or any(_has_tap(inner, taps) for inner in node.bodies) for node in body.nodes)
