"""A decision to prune: ``Keep`` maps a group's name to the sorted indices of channels that stay.

Groups that a keep doesn't name stay dense. Masks and surgery both read it through ``cuts``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prune_jax.pruning.jaxpr.groups import Group

Keep = dict[str, np.ndarray]
Cuts = dict[str, dict[int, np.ndarray]]  # leaf path -> axis -> which positions stay


def checked(groups: Sequence[Group], keep: Mapping[str, Any]) -> Keep:
    """The keep with sorted integer indices, groups in order.

    Raises KeyError on an unknown group, ValueError on indices that are out of range, repeated or
    none at all, and on removing channels of a frozen group.
    """
    by_name = {group.name: group for group in groups}
    unknown = [name for name in keep if name not in by_name]
    if unknown:
        raise KeyError(f"keep names {unknown[0]!r}, which is no group; groups are {', '.join(by_name)}")
    return {name: _indices(group, keep[name]) for name, group in by_name.items() if name in keep}


def _indices(group: Group, given: Any) -> np.ndarray:
    kept = np.asarray(given)
    if kept.ndim != 1 or not (np.issubdtype(kept.dtype, np.integer) or kept.size == 0):
        raise ValueError(
            f"keep[{group.name!r}] must be a list of integer indices, not {kept.dtype} of shape {kept.shape}; "
            "turn a boolean mask into indices with numpy.flatnonzero"
        )
    if kept.size == 0:
        raise ValueError(f"keep[{group.name!r}] is empty; at least one of {group.size} channels must stay")
    if kept.min() < 0 or kept.max() >= group.size:
        wrong = kept[(kept < 0) | (kept >= group.size)][0]
        raise ValueError(f"keep[{group.name!r}] has index {wrong}, outside 0..{group.size - 1}")
    kept = np.sort(kept)
    if (kept[1:] == kept[:-1]).any():
        twice = kept[1:][kept[1:] == kept[:-1]][0]
        raise ValueError(f"keep[{group.name!r}] lists index {twice} twice")
    if group.frozen is not None and kept.size < group.size:
        leaf = group.producer.path
        raise ValueError(
            f"group {group.name!r} ({leaf}, axis {group.producer.axis}) is frozen: {group.frozen}"
        )
    return kept


def cuts(groups: Sequence[Group], keep: Mapping[str, Any]) -> Cuts:
    """Which positions of which leaf axes stay. Axes that lose nothing are left out."""
    out: Cuts = {}
    kept = checked(groups, keep)
    for group in groups:
        if group.name not in kept or len(kept[group.name]) == group.size:
            continue
        stays = np.zeros(group.size + 1, bool)
        stays[kept[group.name]] = True
        stays[-1] = True  # position -1: of another group
        for path, axis, index in group.members:
            axes = out.setdefault(path, {})
            axes[axis] = axes.get(axis, True) & stays[index]
    return out


def shrunk_groups(groups: Sequence[Group], keep: Mapping[str, Any]) -> tuple[Group, ...]:
    """The groups as they are in the network that ``keep`` leaves, without tracing it again."""
    kept, stays = checked(groups, keep), cuts(groups, keep)

    def one(group: Group) -> Group:
        mine = kept.get(group.name, np.arange(group.size))
        number = np.full(group.size + 1, -1)
        number[mine] = np.arange(len(mine))  # index -1, of another group, stays -1

        def cut(member: Any) -> Any:
            there = stays.get(member.path, {}).get(member.axis, slice(None))
            return member._replace(index=number[member.index][there])

        return group._replace(
            size=len(mine), members=tuple(map(cut, group.members)), producer=cut(group.producer)
        )

    return tuple(map(one, groups))


def composed(first: Keep, then: Keep) -> Keep:
    """Two decisions, one after the other, as one about the first network's channels."""
    return {**first, **{name: first[name][kept] if name in first else kept for name, kept in then.items()}}


def relative(first: Mapping[str, Any], both: Mapping[str, Any]) -> Keep:
    """What was decided after ``first``, in the small network's own numbers, so that ``composed`` gives ``both``.

    >>> relative({"a": np.array([1, 3, 4])}, {"a": np.array([3, 4])})
    {'a': array([1, 2])}
    """
    return {
        name: np.searchsorted(np.asarray(first[name]), kept) if name in first else np.asarray(kept)
        for name, kept in both.items()
    }
