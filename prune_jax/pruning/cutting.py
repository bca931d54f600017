"""Physically smaller leaves."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.keep import cuts
from prune_jax.pruning.matching import check_complete, leaf_cuts, leaf_sizes, matched
from prune_jax.pruning.optimizer_cuts import arranged, refreshed
from prune_jax.pruning.spread import cut_where_it_lies, is_spread


def _cut(leaf: Any, axes: Mapping[int, np.ndarray]) -> Any:
    """The leaf without the positions that go."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        shape = tuple(int(axes[k].sum()) if k in axes else n for k, n in enumerate(leaf.shape))
        return jax.ShapeDtypeStruct(shape, leaf.dtype)
    if isinstance(leaf, jax.core.Tracer):
        for axis, stays in axes.items():
            leaf = jnp.take(leaf, np.flatnonzero(stays), axis)
        return leaf
    if is_spread(leaf):
        return cut_where_it_lies(leaf, axes)
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

    A leaf is cut like the params leaf whose path it ends with. So the tree may be the traced params, a part of them
    (Params or statistics alone), gradients, or an optimizer's state. It may be a dict, an ``nnx.State``, a module,
    or boxed variables. Leaves that belong to no params leaf pass as they are. What Adafactor, L-BFGS and SM3 of
    optax keep in shapes of their own is cut too.

    Args:
      tree: any pytree whose leaves' paths end like those of the traced params.
      groups: what ``find_groups`` found for those params.
      keep: group name -> indices of the channels that stay. Groups that aren't named stay whole.

    Returns:
      The same tree with smaller leaves, on the devices and of the dtypes that they had.

    Raises:
      KeyError: ``keep`` names no group.
      ValueError: indices are wrong or of a frozen group, a leaf's shape isn't the traced one, the tree holds another
        network's leaves, or an optimizer's state can't be cut.

    Example:
      >>> from prune_jax import find_groups
      >>> params = {"a": jnp.ones((2, 3)), "b": jnp.ones((3, 2))}
      >>> groups = find_groups(lambda p, x: x @ p["a"] @ p["b"], params, jnp.ones((1, 2)))
      >>> {name: leaf.shape for name, leaf in shrink(params, groups, {"a": [0, 2]}).items()}
      {'a': (2, 2), 'b': (2, 2)}
    """
    wanted = cuts(groups, keep)
    found, treedef = matched(tree, groups)
    check_complete(found, wanted)
    ordered = arranged(found, wanted, leaf_sizes(groups))
    small = [_cut(m.leaf, leaf_cuts(m, wanted)) if m.name in wanted else m.leaf for m in ordered]
    return jax.tree_util.tree_unflatten(treedef, refreshed(ordered, small, wanted))
