"""Masks: make them from a keep, apply them, hold pruned weights at zero, report sparsity."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.keep import check_complete, checked, cuts, matched

Mask = Any  # a pytree like the masked one


def _mask(leaf: Any, axes: Mapping[int, np.ndarray]) -> jax.Array:
    """Outer product of the axes' 0/1 vectors; size 1 on other axes."""
    rank = np.ndim(leaf)
    grid = np.ones((1,) * rank, bool)
    for axis, stays in axes.items():
        grid = grid & stays.reshape([-1 if k == axis else 1 for k in range(rank)])
    numeric = jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == bool
    return jnp.asarray(grid.astype(leaf.dtype if numeric else np.float32))


def expand(tree: Any, groups: Sequence[Group], keep: Mapping[str, Any]) -> Mask:
    """A pytree like ``tree`` of 0/1 masks with each leaf's rank, size 1 on axes that lose nothing.

    Makers and readers of a channel are both masked, so that no bias and no activation with
    f(0) != 0 leaks through. Raises what ``checked`` raises, and ValueError where the tree isn't the
    one that was traced.
    """
    wanted = cuts(groups, keep)
    found, treedef = matched(tree, groups)
    check_complete(found, wanted)
    masks = [
        _mask(jnp.asarray(leaf) if np.isscalar(leaf) else leaf, wanted.get(name or path, {}))
        for path, leaf, name in found
    ]
    return jax.tree_util.tree_unflatten(treedef, masks)


def apply_mask(tree: Any, mask: Mask) -> Any:
    """The tree with masked entries exactly 0 (whatever they were, infinities included)."""

    def one(leaf: Any, m: Any) -> Any:
        if not (jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == bool):
            return leaf
        return jnp.where(m != 0, leaf, jnp.zeros((), leaf.dtype))

    return jax.tree.map(one, tree, mask)


def hold(mask: Mask) -> optax.GradientTransformation:
    """Keep pruned weights at exactly 0; place it **last** in an optax chain.

    It replaces the update of a pruned weight ``w`` by ``-w``, after everything that could move it:
    momentum carried over from dense training, decoupled weight decay, or a weight that isn't zero
    yet. ``update`` needs the params and raises ValueError without them.
    """

    def init(params: Any) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        if params is None:
            raise ValueError("hold(mask) needs the params: call update(grads, state, params)")

        def one(m: Any, u: Any, w: Any) -> Any:
            return jnp.where(m != 0, u, (-w).astype(u.dtype))

        return jax.tree.map(one, mask, updates, params), state

    return optax.GradientTransformation(init, update)


class GroupReport(NamedTuple):
    """How much of one group is left, and whether a mask could stand for the cut."""

    name: str
    size: int
    kept: int
    maskable: bool


class Report(NamedTuple):
    """Sizes of a pruned model.

    ``sparsity`` is the fraction of ``params`` entries removed; ``surgery_only`` names the pruned
    groups over whose channels the network reduces, for which masked and small network differ.
    """

    params: int
    kept: int
    sparsity: float
    groups: tuple[GroupReport, ...]
    surgery_only: tuple[str, ...]


def report(tree: Any, groups: Sequence[Group], keep: Mapping[str, Any]) -> Report:
    """Count what a keep leaves of ``tree`` (pass the trainable params alone to count those)."""
    kept = checked(groups, keep)
    wanted = cuts(groups, keep)
    dense = left = 0
    for path, leaf, name in matched(tree, groups)[0]:
        shape = list(np.shape(leaf))
        dense += int(np.prod(shape))
        for axis, stays in wanted.get(name or path, {}).items():
            shape[axis] = int(stays.sum())
        left += int(np.prod(shape))
    rows = tuple(
        GroupReport(g.name, g.size, len(kept.get(g.name, range(g.size))), g.maskable) for g in groups
    )
    surgery = tuple(row.name for row in rows if row.kept < row.size and not row.maskable)
    return Report(dense, left, 1 - left / max(dense, 1), rows, surgery)
