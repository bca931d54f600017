"""The weights of coupled channels: sums over each channel, and numbers of channels spread over its weights."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.allocation import pruned_count
from prune_jax.pruning.jaxpr.groups import Group, Slice
from prune_jax.pruning.layouts.unstructured import is_kernel
from prune_jax.pruning.matching import matched
from prune_jax.pruning.slices import coupled_slices, slice_sums

OVER = ("producer", "coupled")
Leaves = Mapping[str, Any]
Term = tuple[Slice, Any]  # where, and a number for each channel (size,)


def named_leaves_of(params: Any, groups: Sequence[Group]) -> dict[str, Any]:
    """The leaves of a tree by the names that groups know them by. Others go by their own path.

    Args:
      params: the tree that ``groups`` were found for, or its part that is trained, as a dict or an ``nnx.State``.
      groups: whose members name the leaves.

    Returns:
      Name -> leaf, in the order of the leaves.

    Raises:
      ValueError: a leaf has another shape than it was traced with.
    """
    found, _ = matched(params, groups)
    return {match.name or match.path: match.leaf for match in found}


def slices_of(group: Group, leaves: Leaves, over: str) -> tuple[Slice, ...]:
    """The slices of kernels that count as a channel: its producer's, or those of all kernels that make or read it.

    Raises ValueError where the params lack the producer.
    """
    if group.producer.path not in leaves:
        raise ValueError(
            f"group {group.name!r} is made by leaf {group.producer.path!r}, which the params don't have; they have "
            f"{', '.join(list(leaves)[:5])}, ...: find the groups for these params"
        )
    if over == "producer":
        return (group.producer,)
    return coupled_slices(group, frozenset(path for path, leaf in leaves.items() if is_kernel(leaf)))


def vectors_of(group: Group, leaves: Leaves) -> tuple[Slice, ...]:
    """The members that have one number a channel: biases, scales and shifts of norms."""
    return tuple(one for one in group.members if one.path in leaves and np.ndim(leaves[one.path]) == 1)


def scales_of(group: Group, leaves: Leaves) -> tuple[Slice, ...]:
    """The members that multiply the channels one by one, as the scale of a norm does."""
    scales = {gain.scale for gain in group.gains}
    return tuple(one for one in group.members if one.path in scales and one.path in leaves)


def wide(leaf: Any) -> Any:
    """The leaf in float32, or in its own dtype where that is wider."""
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def squared_norms(leaves: Leaves, slices: Iterable[Slice], size: int) -> jax.Array:
    """Sum of squares of each channel's weights in the slices, (size,)."""
    return sum((slice_sums(jnp.square(wide(leaves[one.path])), one, size) for one in slices), jnp.zeros(size))


def mean_magnitudes(leaves: Leaves, group: Group) -> jax.Array:
    """Mean absolute weight of each channel in its producer, (size,): the score of arXiv 2301.05219's L1."""
    leaf, of = leaves[group.producer.path], group.producer
    positions = np.bincount(of.index[of.index >= 0], minlength=group.size)
    return slice_sums(jnp.abs(wide(leaf)), of, group.size) / (positions * (leaf.size // leaf.shape[of.axis]))


def spread(values: Any, of: Slice, rank: int) -> jax.Array:
    """Numbers of channels at the positions of a leaf's axis, of size 1 on its other axes. 0 where none is meant."""
    along = jnp.where(of.index >= 0, values[of.index], 0)
    return along.reshape([-1 if axis == of.axis else 1 for axis in range(rank)])


def weighed(leaves: Leaves, terms: Iterable[Term]) -> dict[str, jax.Array]:
    """Leaf name -> sum over the terms of each weight times its channel's number: the gradient of squared norms."""
    out: dict[str, jax.Array] = {}
    for of, values in terms:
        leaf = wide(leaves[of.path])
        here = leaf * spread(values, of, leaf.ndim)
        out[of.path] = out[of.path] + here if of.path in out else here
    return out


def lowest(scores: jax.Array, count: int) -> jax.Array:
    """Where the ``count`` lowest scores are, bool (n,). Of equal scores the first."""
    rank = jnp.argsort(jnp.argsort(scores, stable=True), stable=True)
    return rank < count


def refuse_over(over: str) -> None:
    """Raise ValueError for a word that names no slices."""
    if over not in OVER:
        raise ValueError(f"over is {over!r}; choose one of {', '.join(map(repr, OVER))}")


def counts_of(groups: Sequence[Group], ratio: float | Mapping[str, float]) -> dict[str, int]:
    """How many channels of each group are to go: ``ceil(ratio * size)``, never all.

    Args:
      groups: that can be pruned.
      ratio: the fraction removed, of every group or by the group's name.

    Returns:
      Group name -> count. Groups that a mapping doesn't name are left out.
    """
    each = ratio if isinstance(ratio, Mapping) else {group.name: ratio for group in groups}
    return {g.name: pruned_count(g.size, each[g.name]) for g in groups if g.name in each}
