"""Physically smaller leaves."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.keep import check_complete, cuts, matched


def _cut(leaf: Any, axes: Mapping[int, np.ndarray]) -> Any:
    """The leaf without the positions that go."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        shape = tuple(int(axes[k].sum()) if k in axes else n for k, n in enumerate(leaf.shape))
        return jax.ShapeDtypeStruct(shape, leaf.dtype)
    if isinstance(leaf, jax.core.Tracer):
        for axis, stays in axes.items():
            leaf = jnp.take(leaf, np.flatnonzero(stays), axis)
        return leaf
    # NumPy on the host: XLA would compile one gather for every shape in the network.
    small = np.asarray(leaf)
    for axis, stays in axes.items():
        small = small.take(np.flatnonzero(stays), axis)
    if not isinstance(leaf, jax.Array):
        return small
    # Not jnp.asarray, which compiles a copy for every shape.
    return jax.device_put(small, leaf.sharding) if leaf.committed else jax.device_put(small)


def shrink(tree: Any, groups: Sequence[Group], keep: Mapping[str, Any]) -> Any:
    """The tree with pruned channels removed from every leaf that has them.

    Works for the traced params (batch statistics included), for trees of gradients and for
    optimizer states: a leaf is cut like the params leaf whose path it ends with. Other leaves are
    passed through. Raises what ``checked`` raises, and ValueError where a leaf's shape isn't the
    traced one.
    """
    wanted = cuts(groups, keep)
    found, treedef = matched(tree, groups)
    check_complete(found, wanted)
    small = [_cut(leaf, wanted[name]) if name in wanted else leaf for _, leaf, name in found]
    return jax.tree_util.tree_unflatten(treedef, small)
