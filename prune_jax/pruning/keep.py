"""A decision to prune: ``Keep`` maps a group's name to the sorted indices of channels that stay.

Groups that a keep doesn't name stay dense. Masks and surgery both read it through ``cuts``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
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
    """Which positions of which leaf axes stay; axes that lose nothing are left out."""
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


def leaf_sizes(groups: Sequence[Group]) -> dict[str, dict[int, int]]:
    """Size of every axis of every leaf that some group has."""
    out: dict[str, dict[int, int]] = {}
    for group in groups:
        for path, axis, index in group.members:
            out.setdefault(path, {})[axis] = len(index)
    return out


def _tails(paths: Sequence[str]) -> dict[tuple[str, ...], str]:
    """Endings that name a leaf: its whole path, or the path inside the 'params' collection."""
    tails = {tuple(path.split("/")): path for path in paths}
    for path in paths:
        parts = tuple(path.split("/"))
        if parts[0] == "params" and len(parts) > 1:
            tails.setdefault(parts[1:], path)
    return tails


def matched(tree: Any, groups: Sequence[Group]) -> tuple[list[tuple[str, Any, str | None]], Any]:
    """Each leaf of a tree with its own path and the params leaf whose path it ends with.

    A leaf of another rank or size than traced raises ValueError; scalars and single placeholders
    (an optimizer's step count) belong to no params leaf.
    """
    sizes = leaf_sizes(groups)
    tails = _tails(list(sizes))
    flat, treedef = jax.tree_util.tree_flatten_with_path(tree)
    out = []
    for key_path, leaf in flat:
        path = jax.tree_util.keystr(key_path, simple=True, separator="/")
        name = _longest_tail(path, tails)
        if name is not None and np.size(leaf) <= 1 and path != name:
            name = None
        if name is not None:
            _check_shape(path, np.shape(leaf), name, sizes[name])
        out.append((path, leaf, name))
    return out, treedef


def _longest_tail(path: str, tails: Mapping[tuple[str, ...], str]) -> str | None:
    parts = tuple(path.split("/"))
    return next((tails[parts[k:]] for k in range(len(parts)) if parts[k:] in tails), None)


def _check_shape(path: str, shape: tuple[int, ...], name: str, sizes: Mapping[int, int]) -> None:
    for axis, size in sizes.items():
        if axis >= len(shape) or shape[axis] != size:
            raise ValueError(
                f"leaf {path!r} has shape {shape}, but {name!r} was traced with {size} indices on axis {axis}; "
                "find the groups again for these params, or pass the dense tree"
            )


def check_complete(found: Sequence[tuple[str, Any, str | None]], wanted: Cuts) -> None:
    """Raise ValueError where a leaf that is to be cut is missing from its collection of the tree.

    A tree may lack whole collections (gradients have no batch statistics); an optimizer's state may
    lack any leaf (a masked one, or plain SGD).
    """
    names = {name for _, _, name in found if name}
    same = {name for path, _, name in found if name and path in (name, name.removeprefix("params/"))}
    tops = {name.split("/", 1)[0] for name in same}
    missing = [path for path in wanted if path not in names and path.split("/", 1)[0] in tops]
    if wanted and not names and any(np.ndim(leaf) for _, leaf, _ in found):
        missing = list(wanted)
    if missing:
        raise ValueError(
            f"leaf {missing[0]!r} is to be cut, but this tree has no such leaf; pass a tree of the structure traced"
        )
