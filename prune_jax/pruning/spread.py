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
    return _taken(stay, fitting(leaf.sharding, shape))(leaf)


@functools.cache  # a memo: leaves of one shape, cut alike, are compiled once
def _taken(stay: Axes, sharding: Any) -> Any:
    def take(leaf: jax.Array) -> jax.Array:
        for axis, positions in stay:
            leaf = jnp.take(leaf, np.asarray(positions), axis)
        return leaf

    return jax.jit(take, out_shardings=sharding)


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
