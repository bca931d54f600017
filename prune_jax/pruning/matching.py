"""Which leaf of a tree belongs to which leaf of the traced params, whatever the tree was taken from."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.keep import Cuts
from prune_jax.pruning.leaf_names import Named, Parts, collections, longest_tail, named_leaves, tails
from prune_jax.pruning.optimizer_axes import PROJECTED, Axes, param_axes, with_index


class Match(NamedTuple):
    """A leaf of a tree.

    ``name`` is the path of the params leaf that it belongs to (None: it belongs to none). That name
    begins at ``parts[start]``. ``axes[k]`` is the axis of the params leaf which its own axis ``k`` is.
    """

    path: str
    parts: Parts
    leaf: Any
    name: str | None
    axes: Axes
    start: int
    partial: bool = False  # whether it has some of the params leaf's axes only, by an optimizer's design

    @property
    def whole(self) -> bool:
        """Whether the tree holds it under the name alone, as params and gradients are held."""
        return self.name is not None and self.start == 0

    @property
    def role(self) -> str | None:
        """What an optimizer calls the tree that the leaf is in: ``mu``, ``trace``, ``v_row``."""
        return self.parts[self.start - 1] if self.name is not None and self.start else None


def leaf_sizes(groups: Sequence[Group]) -> dict[str, dict[int, int]]:
    """Size of every axis of every leaf that some group has."""
    out: dict[str, dict[int, int]] = {}
    for group in groups:
        for path, axis, index in group.members:
            out.setdefault(path, {})[axis] = len(index)
    return out


def matched(tree: Any, groups: Sequence[Group]) -> tuple[list[Match], Any]:
    """Each leaf of a tree with the params leaf whose name it ends with.

    A leaf of another rank or size than traced raises ValueError. Scalars and single placeholders
    (an optimizer's step count) belong to no params leaf.
    """
    sizes = leaf_sizes(groups)
    known = tails(sizes)
    named, treedef = named_leaves(tree)
    siblings = {item.parts: item.leaf for item in named}
    return [_match(item, known, sizes, siblings) for item in named], treedef


def _match(
    item: Named,
    known: Mapping[Parts, str],
    sizes: Mapping[str, Mapping[int, int]],
    siblings: Mapping[Parts, Any],
) -> Match:
    path, parts, leaf = item
    name, start = longest_tail(parts, known)
    index = with_index(parts, start, known)
    if index is not None:
        name, start = index
    if name is None or (np.size(leaf) <= 1 and start):
        return Match(path, parts, leaf, None, {}, start)
    shape = np.shape(leaf)
    axes, partial = param_axes(parts, start, shape, sizes[name], siblings)
    if index is not None:
        axes, partial = {0: int(parts[-1])}, True
    match = Match(path, parts, leaf, name, axes, start, partial)
    if match.role != PROJECTED:
        _check_shape(match, shape, sizes[name])
    return match


def _check_shape(match: Match, shape: tuple[int, ...], sizes: Mapping[int, int]) -> None:
    for axis, size in sizes.items():
        mine = [shape[k] for k, origin in match.axes.items() if origin == axis]
        if mine == [size] or (not mine and match.partial):
            continue
        way_out = "find the groups again for these params, or pass the dense tree"
        if match.role is not None:
            way_out += "; of an optimizer that keeps other shapes, start the state anew with the small params"
        raise ValueError(
            f"leaf {match.path!r} has shape {shape}, but {match.name!r} was traced with {size} indices on "
            f"axis {axis}; {way_out}"
        )


def leaf_cuts(match: Match, wanted: Cuts) -> dict[int, np.ndarray]:
    """Which positions of which of the leaf's own axes stay. Axes that lose nothing are left out."""
    stays = wanted.get(match.name or match.path, {})
    return {mine: stays[origin] for mine, origin in match.axes.items() if origin in stays}


def check_complete(found: Sequence[Match], wanted: Cuts) -> None:
    """Raise ValueError where the tree isn't one of the traced network's.

    A tree may be any part of the traced one: gradients and a ``State`` of Params have no statistics,
    statistics no kernels, an optimizer's state may lack any leaf. It may not hold a leaf that nobody
    knows in place of one that is to be cut. A Linen collection under its name comes whole, but for leaves of a
    kind (``kernel``, ``scale``) that it has none of.
    """
    names = {match.name for match in found if match.name}
    missing = [path for path in wanted if path not in names]
    if not missing:
        return
    strange = [m.path for m in found if m.name is None and np.ndim(m.leaf) and np.size(m.leaf) > 1]
    whole = {match.name for match in found if match.whole and match.name}
    if strange and not (names and not whole):  # an optimizer's state has arrays of its own
        raise ValueError(
            f"leaf {missing[0]!r} is to be cut, but this tree has no such leaf, and has {strange[0]!r}, "
            "which was not traced; pass a tree of the structure traced"
        )
    named_whole = {
        match.name for match in found if match.name and match.parts == tuple(match.name.split("/"))
    }
    inside = collections(tuple(name.split("/")) for name in wanted)
    left_out = [path for path in missing if inside and _expected(path, named_whole)]
    if left_out:
        raise ValueError(
            f"leaf {left_out[0]!r} is to be cut, but this tree has no such leaf; pass a tree of the structure traced"
        )


def _expected(path: str, whole: set[str]) -> bool:
    """Whether a tree that holds these leaves of the network should hold this one too."""
    top, *_, kind = path.split("/")
    return any(other.split("/")[0] == top and other.split("/")[-1] == kind for other in whole)
