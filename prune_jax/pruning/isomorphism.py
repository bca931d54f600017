"""Which groups are built alike: they compete among themselves, and no layer of another kind stands in their way.

Source: Fang et al., Isomorphic Pruning for Vision Models, ECCV 2024, arXiv 2407.04616, which calls two groups
isomorphic where their graphs of layers are equal. Here the members say it, without the names of layers or of leaves.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from prune_jax.pruning.allocation import Normalise, by_mean, chosen, global_ranking
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.keep import Keep

Structure = tuple[tuple[int, int, int, bool], ...]


def ranks_of(tree: Any) -> dict[str, int]:
    """Leaf path -> how many axes the leaf has."""
    return {path: len(leaf.shape) for path, leaf in leaf_paths(tree)}


def structure(group: Group, ranks: Mapping[str, int]) -> Structure:
    """What a group is made of: of every member the leaf's rank, the axis, its places for each channel, and whether it
    is the producer. Widths and names are no part of it.
    """
    made = (group.producer.path, group.producer.axis)
    return tuple(
        sorted(
            (ranks[path], axis, int(np.count_nonzero(index >= 0)) // group.size, (path, axis) == made)
            for path, axis, index in group.members
        )
    )


def alike(groups: Sequence[Group], ranks: Mapping[str, int]) -> list[list[Group]]:
    """The groups by their structure, in the order in which each structure first comes.

    Example:
      >>> from prune_jax.pruning.jaxpr.groups import Slice
      >>> def dense(name, size):
      ...     makes = Slice(f"{name}/kernel", 1, np.arange(size))
      ...     return Group(name, size, (makes,), makes, None, True)
      >>> ranks = {"a/kernel": 2, "b/kernel": 2, "conv/kernel": 4}
      >>> classes = alike([dense("a", 3), dense("conv", 3), dense("b", 5)], ranks)
      >>> [[group.name for group in each] for each in classes]
      [['a', 'b'], ['conv']]
    """
    classes: dict[Structure, list[Group]] = {}
    for group in groups:
        classes.setdefault(structure(group, ranks), []).append(group)
    return list(classes.values())


def isomorphic_ranking(
    groups: Sequence[Group],
    scores: Mapping[str, np.ndarray],
    ratio: float,
    ranks: Mapping[str, int],
    patterns: Sequence[str] = ("*",),
    *,
    normalise: Normalise = by_mean,
    at_least: float = 0.0,
    round_to: int = 1,
    dense: Mapping[str, int] = MappingProxyType({}),
) -> Keep:
    """Of all chosen groups that are alike, the lowest ``ceil(ratio * their channels)`` go.

    Args:
      groups: from ``find_groups``.
      scores: group name -> scores (channels,).
      ratio: the fraction removed of every class of groups.
      ranks: ``ranks_of`` the params.
      patterns: over group names.
      normalise: see ``allocation.global_ranking``, as the others.
      at_least: the fraction of each group that stays.
      round_to: kept channels are rounded up to a multiple of it.
      dense: the dense network's sizes of groups that have been cut before.

    Returns:
      A keep of all chosen groups.
    """
    keep: Keep = {}
    for each in alike(chosen(groups, patterns), ranks):
        keep |= global_ranking(
            each, scores, ratio, normalise=normalise, at_least=at_least, round_to=round_to, dense=dense
        )
    return keep
