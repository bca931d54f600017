"""Masks: make them from a keep, apply them, hold pruned weights at zero, report sparsity."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.keep import checked, cuts
from prune_jax.pruning.mask_of_leaf import masks_of
from prune_jax.pruning.matching import check_complete, leaf_cuts, matched

Mask = Any  # a pytree like the masked one


def _mask(leaf: Any, axes: Mapping[int, np.ndarray]) -> jax.Array:
    """Outer product of the axes' 0/1 vectors. Other axes have size 1."""
    rank = np.ndim(leaf)
    grid = np.ones((1,) * rank, bool)
    for axis, stays in axes.items():
        grid = grid & stays.reshape([-1 if k == axis else 1 for k in range(rank)])
    numeric = jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == bool
    return jax.device_put(
        grid.astype(leaf.dtype if numeric else np.float32)
    )  # asarray compiles for each shape


def expand(tree: Any, groups: Sequence[Group], keep: Mapping[str, Any]) -> Mask:
    """Masks of 0 and 1 for a keep.

    Makers and readers of a channel are both masked. So no bias and no activation with f(0) != 0 leaks through.

    Args:
      tree: the params, or any tree that ``shrink`` takes.
      groups: what ``find_groups`` found for those params.
      keep: group name -> indices of the channels that stay. Groups that aren't named stay whole.

    Returns:
      A pytree like ``tree``. A mask has its leaf's rank and dtype, and size 1 on axes that lose nothing.

    Raises:
      KeyError: ``keep`` names no group.
      ValueError: indices are wrong or of a frozen group, or the tree holds another network's leaves.

    Example:
      >>> from prune_jax import find_groups
      >>> params = {"a": jnp.ones((2, 3)), "b": jnp.ones((3, 2))}
      >>> groups = find_groups(lambda p, x: x @ p["a"] @ p["b"], params, jnp.ones((1, 2)))
      >>> mask = expand(params, groups, {"a": [0, 2]})
      >>> mask["a"].tolist(), mask["b"].tolist()
      ([[1.0, 0.0, 1.0]], [[1.0], [0.0], [1.0]])
    """
    wanted = cuts(groups, keep)
    found, treedef = matched(tree, groups)
    check_complete(found, wanted)
    masks = [
        _mask(jnp.asarray(m.leaf) if np.isscalar(m.leaf) else m.leaf, leaf_cuts(m, wanted)) for m in found
    ]
    return jax.tree_util.tree_unflatten(treedef, masks)


def apply_mask(tree: Any, mask: Mask) -> Any:
    """The tree with masked entries exactly 0, whatever they were, infinities included.

    A leaf takes the mask whose path it has. So a mask of a dict fits an ``nnx.State`` of the same network, and the
    mask of all params fits a part of them.

    Args:
      tree: a pytree of arrays.
      mask: a pytree of masks, such as ``expand`` makes. 0 marks what goes. Shapes broadcast against the leaves'.

    Returns:
      A pytree like ``tree``, of the same shapes and dtypes. Leaves that are no numbers pass as they are.

    Raises:
      ValueError: a leaf has no mask.

    Example:
      >>> apply_mask({"w": jnp.array([jnp.inf, 2.0])}, {"w": jnp.array([0.0, 1.0])})["w"].tolist()
      [0.0, 2.0]
    """
    leaves, treedef = jax.tree.flatten(tree)
    masks = masks_of(tree, mask)
    numeric = [jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == bool for leaf in leaves]
    held = iter(
        _masked(
            [leaf for leaf, n in zip(leaves, numeric, strict=True) if n],
            [m for m, n in zip(masks, numeric, strict=True) if n],
        )
    )
    return jax.tree.unflatten(
        treedef, [next(held) if n else leaf for leaf, n in zip(leaves, numeric, strict=True)]
    )


@partial(jax.jit, inline=True)  # one program for a tree
def _masked(leaves: list[Any], masks: list[Any]) -> list[jax.Array]:
    pairs = zip(leaves, masks, strict=True)
    return [jnp.where(m != 0, leaf, jnp.zeros((), leaf.dtype)) for leaf, m in pairs]


def hold(mask: Mask) -> optax.GradientTransformation:
    """Keep pruned weights at exactly 0. Place it **last** in an optax chain.

    It replaces the update of a pruned weight ``w`` by ``-w``. It stands after everything that could move the weight:
    momentum carried over from dense training, decoupled weight decay. A weight that isn't zero yet becomes zero in
    the first step.

    Args:
      mask: what ``expand`` made for these params. It may be of all params where the optimizer has a part of them, and a
        dict where it has an ``nnx.State``. Leaves are matched by path.

    Returns:
      An optax transformation without a state.

    Raises:
      ValueError: in ``init`` and ``update``, where a leaf has no mask that fits. In ``update`` without the params.

    Example:
      >>> tx = optax.chain(optax.sgd(0.1), hold({"w": jnp.array([0.0, 1.0])}))
      >>> params = {"w": jnp.array([5.0, 5.0])}
      >>> updates, _ = tx.update({"w": jnp.ones(2)}, tx.init(params), params)
      >>> [round(float(w), 3) for w in optax.apply_updates(params, updates)["w"]]
      [0.0, 4.9]
    """

    def init(params: Any) -> optax.EmptyState:
        masks_of(params, mask)  # a wrong mask is refused before any step
        return optax.EmptyState()

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        if params is None:
            raise ValueError("hold(mask) needs the params: call update(grads, state, params)")
        masks = masks_of(updates, mask)
        leaves, treedef = jax.tree.flatten(updates)
        triples = zip(masks, leaves, jax.tree.leaves(params), strict=True)
        return jax.tree.unflatten(
            treedef, [jnp.where(m != 0, u, (-w).astype(u.dtype)) for m, u, w in triples]
        ), state

    return optax.GradientTransformation(init, update)


class GroupReport(NamedTuple):
    """How much of one group is left, and whether a mask could stand for the cut."""

    name: str
    size: int
    kept: int
    maskable: bool


class Report(NamedTuple):
    """Sizes of a pruned model.

    ``sparsity`` is the fraction of ``params`` entries removed. ``surgery_only`` names the pruned
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
    for match in matched(tree, groups)[0]:
        shape = list(np.shape(match.leaf))
        dense += int(np.prod(shape))
        for axis, stays in leaf_cuts(match, wanted).items():
            shape[axis] = int(stays.sum())
        left += int(np.prod(shape))
    rows = tuple(
        GroupReport(g.name, g.size, len(kept.get(g.name, range(g.size))), g.maskable) for g in groups
    )
    surgery = tuple(row.name for row in rows if row.kept < row.size and not row.maskable)
    return Report(dense, left, 1 - left / max(dense, 1), rows, surgery)
