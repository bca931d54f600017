"""Which channels stay: the asked amount, spread over the groups as the scope says."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from flax import nnx

from prune_jax.pruning import allocation
from prune_jax.pruning.granularity import ceiling
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.keep import Keep
from prune_jax.pruning.module.asked import Asked

Scores = Mapping[str, np.ndarray]


def named(groups: Sequence[Group], layers: Any, types: Any) -> list[Group]:
    """Groups that ``layers`` names and that can be pruned.

    Raises:
      ValueError: a pattern fits no group, or all that fit are frozen, or the filter picks none.
    """
    if isinstance(layers, str):
        return allocation.chosen(groups, (layers,))
    if isinstance(layers, list | tuple) and layers and all(isinstance(each, str) for each in layers):
        return allocation.chosen(groups, layers)
    if not types:
        raise ValueError(
            f"layers is {layers!r}; give patterns over group names (filters are for nnx modules)"
        )
    fits = nnx.filterlib.to_predicate(layers)
    found = [g for g in groups if g.frozen is None and fits(*types[g.producer.path])]
    if not found:
        raise ValueError(
            f"layers is {layers!r}, a filter that picks the maker of no group that can be pruned"
        )
    return found


def chosen(
    asked: Asked,
    groups: Sequence[Group],
    scores: Scores,
    macs: Callable[[Keep], int],
    shapes: Mapping[str, Any],
) -> Keep:
    """The keep of the network as it is.

    Args:
      asked: what ``prune`` was asked for.
      groups: those that are pruned.
      scores: of each group's channels.
      macs: cost of a keep.
      shapes: leaf path -> a leaf's shape.
    """
    if asked.speedup is None:
        return _at_ratio(asked, groups, scores, asked.ratio, shapes)

    def allocate(ratio: float) -> Keep:
        return _at_ratio(asked, groups, scores, ratio, shapes)

    return allocation.to_speedup(allocate, macs, asked.speedup)


def _at_ratio(asked: Asked, groups: Sequence[Group], scores: Scores, ratio: Any, shapes: Any) -> Keep:
    if asked.scope == "layer":
        found = {}
        for group in groups:
            mine = _ratio_of(group, ratio)
            stay = group.size - allocation.pruned_count(group.size, mine, round_to=asked.round_to)
            found[group.name] = allocation.lowest(
                scores[group.name], group.size - max(stay, _floor(group, asked))
            )
        return found
    if asked.scope == "global":
        return _together(asked, groups, scores, ratio)
    keep: Keep = {}
    for alike in _isomorphic(groups, shapes):
        keep |= _together(asked, alike, scores, ratio)
    return keep


def _ratio_of(group: Group, ratio: Any) -> float:
    """Of a mapping, the first pattern that fits; 0 where none does."""
    if isinstance(ratio, Mapping):
        return next((part for pattern, part in ratio.items() if fnmatchcase(group.name, pattern)), 0.0)
    return ratio


def _floor(group: Group, asked: Asked) -> int:
    least = asked.at_least
    count = least if isinstance(least, int) else ceiling(least, group.size)
    return allocation.rounded_up(max(1, int(count)), group.size, asked.round_to)


def _together(asked: Asked, groups: Sequence[Group], scores: Scores, ratio: float) -> Keep:
    """The lowest ``ceil(ratio * all)`` channels of these groups, each score over its group's mean."""
    marks = [allocation.by_mean(np.asarray(scores[g.name], np.float64)) for g in groups]
    floors = [_floor(group, asked) for group in groups]
    gone = ceiling(ratio, sum(group.size for group in groups))
    return allocation.ranked_together(groups, marks, gone, floors, asked.round_to)


def _isomorphic(groups: Sequence[Group], shapes: Mapping[str, Any]) -> list[list[Group]]:
    """Groups whose channels have the same kinds of weights: leaf name, rank and axis of every member.

    Source: Fang et al., Isomorphic Pruning for Vision Models, ECCV 2024, arXiv 2407.04616.
    """
    classes: dict[Any, list[Group]] = {}
    for group in groups:
        members = sorted(
            (path.rsplit("/", 1)[-1], len(shapes[path]), axis) for path, axis, _ in group.members
        )
        classes.setdefault(tuple(members), []).append(group)
    return list(classes.values())
