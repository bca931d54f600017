"""Attention heads among the coupled groups: granularity 'head' prunes these alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.jaxpr.reading import leaf_paths


def is_heads(group: Group, leaves: dict[str, Any]) -> bool:
    """Whether each channel of a group is a head: several outputs of one dense layer that live or die together.

    Two forms are known. A kernel (inputs, heads, outputs of a head), as Flax's attention has, holds the group on its
    middle axis. A kernel (inputs, outputs) whose outputs are reshaped into heads holds each channel in runs of
    consecutive outputs, equally many. The gates of a recurrent cell hold a unit at several places too, but one by one.

    Args:
      group: one that can be pruned, or not.
      leaves: all leaves of the network, or their shapes, by path.
    """
    path, axis, index = group.producer
    rank = np.ndim(leaves[path])
    if rank == 3:
        return axis == 1
    if rank != 2 or (index < 0).any():
        return False
    starts = np.flatnonzero(np.r_[True, index[1:] != index[:-1]])
    runs = np.diff(np.r_[starts, len(index)])
    counts = np.bincount(index)
    return bool((runs > 1).all() and (runs == runs[0]).all() and (counts == counts[0]).all())


def _is_inside(group: Group, others: Sequence[Group]) -> bool:
    """Whether a group's channels are parts of the heads of another one, at the same positions of the same axis."""
    path, axis, index = group.producer
    for other in others:
        theirs = other.producer
        if other is not group and theirs[:2] == (path, axis):
            both = (index >= 0) & (theirs.index >= 0)
            if both.any() and _changes(theirs.index[both]) < _changes(index[both]):
                return True
    return False


def _changes(index: np.ndarray) -> int:
    return int(np.count_nonzero(np.diff(index)))


def head_groups(groups: Sequence[Group], params: Any) -> tuple[Group, ...]:
    """The prunable groups whose channels are attention heads.

    Args:
      groups: as ``find_groups`` gives them.
      params: what they were found for, arrays or shapes.

    Returns:
      Those of them that aren't frozen and of which ``is_heads`` holds.

    Raises:
      ValueError: there is none.
    """
    leaves = dict(leaf_paths(params))
    found = tuple(group for group in groups if group.frozen is None and is_heads(group, leaves))
    found = tuple(group for group in found if not _is_inside(group, found))
    if not found:
        names = ", ".join(group.name for group in groups if group.frozen is None)
        raise ValueError(
            f"no group's channels are attention heads, groups are {names}: choose granularity 'filter' or "
            "'unstructured'"
        )
    return found
