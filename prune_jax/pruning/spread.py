"""Leaves that are spread over devices: cut where they lie, never gathered on one host."""

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

Axes = tuple[tuple[int, tuple[int, ...]], ...]  # axis -> positions that stay, in a form that can be hashed


def is_spread(leaf: Any) -> bool:
    """Whether several devices hold different parts of a leaf."""
    return isinstance(leaf, jax.Array) and not leaf.is_fully_replicated and len(leaf.sharding.device_set) > 1


def cut_where_it_lies(leaf: jax.Array, axes: Mapping[int, np.ndarray]) -> jax.Array:
    """A leaf without the positions that go, spread over the same devices.

    Args:
      leaf: spread over devices.
      axes: axis -> which of its positions stay, of bools.

    Returns:
      The small leaf. Its sharding is the leaf's. Where an axis isn't a multiple of its devices any more, the largest
      other axis that is one is spread in its place, and where there is none the leaf is whole on every device.
    """
    shape = tuple(int(axes[k].sum()) if k in axes else n for k, n in enumerate(leaf.shape))
    stay = tuple((axis, tuple(np.flatnonzero(kept).tolist())) for axis, kept in axes.items())
    return _taken(stay, leaf.sharding, fitting(leaf.sharding, shape))(leaf)


@functools.cache  # a memo: leaves of one shape, cut alike, are compiled once
def _taken(stay: Axes, before: Any, after: Any) -> Any:
    def take(leaf: jax.Array) -> jax.Array:
        return taken(leaf, stay, before)

    return jax.jit(take, out_shardings=after)


def taken(leaf: jax.Array, stay: Axes, sharding: Any) -> jax.Array:
    """The positions that stay, taken on each device by itself as far as can be, inside a trace.

    An axis that is spread is gathered by every device where it is cut as it lies. So it is cut last, and before that
    the devices share another axis instead.

    Args:
      leaf: a traced array.
      stay: axis -> positions.
      sharding: how the leaf is spread.
    """
    named = isinstance(sharding, NamedSharding)
    for axis, positions in sorted(stay, key=lambda cut: named and _name(sharding, cut[0]) is not None):
        if named and _name(sharding, axis) is not None:
            sharding = _moved(sharding, axis, leaf.shape)
            leaf = jax.lax.with_sharding_constraint(leaf, sharding)
        leaf = jnp.take(leaf, np.asarray(positions), axis)
    return leaf


def _name(sharding: NamedSharding, axis: int) -> Any:
    """What an axis is spread over, or None."""
    return sharding.spec[axis] if axis < len(sharding.spec) else None


def _moved(sharding: NamedSharding, axis: int, shape: tuple[int, ...]) -> NamedSharding:
    """The sharding with an axis's devices on the largest other one that they divide. As it is where there is none."""
    names = [_name(sharding, k) for k in range(len(shape))]
    count = _devices(sharding, names[axis])
    free = [k for k, n in enumerate(shape) if k != axis and names[k] is None and n % count == 0]
    if free:
        names[max(free, key=lambda k: shape[k])], names[axis] = names[axis], None
    return NamedSharding(sharding.mesh, PartitionSpec(*names))


def fitting(sharding: Any, shape: tuple[int, ...]) -> Any:
    """A sharding for an array of this shape, as like to the one given as its sizes allow."""
    if not isinstance(sharding, NamedSharding):
        return sharding
    names = [*sharding.spec, *itertools.repeat(None, len(shape) - len(sharding.spec))]
    for axis, name in enumerate(names):
        if name is None or shape[axis] % _devices(sharding, name) == 0:
            continue
        names[axis] = None
        free = [k for k, n in enumerate(shape) if names[k] is None and n % _devices(sharding, name) == 0]
        if free:
            names[max(free, key=lambda k: shape[k])] = name
    return NamedSharding(sharding.mesh, PartitionSpec(*names))


def _devices(sharding: NamedSharding, name: Any) -> int:
    """How many parts an axis is cut into."""
    named = name if isinstance(name, tuple) else (name,)
    return int(np.prod([sharding.mesh.shape[each] for each in named]))
