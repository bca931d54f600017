"""From groups to the rows of a drawing: one row for each kernel, in the order in which the network runs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prune_jax.pruning.jaxpr.groups import Group, Slice, layer_name
from prune_jax.pruning.keep import checked

MOST_SEGMENTS = 24


class Segment(NamedTuple):
    """A run of positions along a leaf axis that belong to one group.

    Attributes:
      group: the group's number, its place in the list of groups. -1 where no group has these positions.
      length: positions before.
      kept: positions after.
    """

    group: int
    length: int
    kept: int


Bar = tuple[Segment, ...]


class Row(NamedTuple):
    """One kernel.

    Attributes:
      name: the layer's name.
      reads: a bar for each axis of inputs.
      makes: a bar for each axis of outputs.
    """

    name: str
    reads: tuple[Bar, ...]
    makes: tuple[Bar, ...]


Axes = dict[int, list[tuple[int, Slice]]]


def rows_of(groups: Sequence[Group], keep: Mapping[str, Any]) -> tuple[Row, ...]:
    """A row for each leaf that has two axes with channels, such as a dense or convolutional kernel."""
    kept = checked(groups, keep)
    leaves = _leaves(groups)
    kernels = {path: axes for path, axes in leaves.items() if _is_kernel(path, axes, leaves, groups)}
    short = [layer_name(path) for path in kernels]
    rows = []
    for number, (path, axes) in enumerate(kernels.items()):
        made = _made_axes(path, axes, leaves, groups)
        name = layer_name(path) if short.count(layer_name(path)) == 1 else path.removeprefix("params/")
        bars = {axis: _bar(members, groups, kept) for axis, members in axes.items()}
        row = Row(
            name,
            tuple(bar for axis, bar in bars.items() if axis not in made),
            tuple(bar for axis, bar in bars.items() if axis in made),
        )
        rows.append((_place(row, groups), number, row))
    return tuple(row for _, _, row in sorted(rows, key=lambda item: item[:2]))


def _leaves(groups: Sequence[Group]) -> dict[str, Axes]:
    """Leaf path -> axis -> the groups along it."""
    leaves: dict[str, Axes] = {}
    for number, group in enumerate(groups):
        for member in group.members:
            leaves.setdefault(member.path, {}).setdefault(member.axis, []).append((number, member))
    return {path: dict(sorted(axes.items())) for path, axes in leaves.items()}


def _beside(path: str, axes: Axes, leaves: Mapping[str, Axes], longer: bool) -> list[set[int]]:
    """The groups of the leaves of the same layer that have more axes than this one, or fewer."""
    layer = path.rpartition("/")[0]
    return [
        _numbers(others)
        for other, others in leaves.items()
        if other.rpartition("/")[0] == layer
        and len(others) != len(axes)
        and (len(others) > len(axes)) == longer
    ]


def _numbers(axes: Axes) -> set[int]:
    return {number for members in axes.values() for number, _ in members}


def _is_kernel(path: str, axes: Axes, leaves: Mapping[str, Axes], groups: Sequence[Group]) -> bool:
    """Whether a leaf makes channels from others. A bias, of several axes too, only adds to them.

    Of a kernel that reads a single channel only one axis is of a group. It is the producer of this group.
    """
    mine = _numbers(axes)
    several = len(axes) > 1 or any(groups[number].producer.path == path for number in mine)
    return several and not any(mine <= longer for longer in _beside(path, axes, leaves, longer=True))


def _made_axes(path: str, axes: Axes, leaves: Mapping[str, Axes], groups: Sequence[Group]) -> set[int]:
    """The axes of outputs.

    A bias beside the kernel has the same groups. Without one, it is the axis that a group names as its producer.
    Where that doesn't tell, it is the last axis, as in Flax.
    """
    beside = set().union(*_beside(path, axes, leaves, longer=False))
    by_bias = {axis for axis, members in axes.items() if {number for number, _ in members} & beside}
    by_producer = {
        axis
        for axis, members in axes.items()
        if any(groups[number].producer[:2] == (path, axis) for number, _ in members)
    }
    for found in (by_bias, by_producer):
        if found and len(found) < len(axes):
            return found
    return {max(axes)}


def _bar(members: Sequence[tuple[int, Slice]], groups: Sequence[Group], kept: Mapping[str, Any]) -> Bar:
    """The runs of one leaf axis. Where they are too many to see, one for each group.

    Of groups that share positions (heads, and what is inside them) the first is shown. A position stays where it stays
    in every group.
    """
    length = len(members[0][1].index)
    owner, stays = np.full(length, -1), np.ones(length, bool)
    for number, member in members:
        mine, group = member.index >= 0, groups[number]
        owner[mine & (owner < 0)] = number
        if group.name in kept:
            stays[mine] &= np.isin(member.index[mine], kept[group.name])
    starts = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
    runs = [(owner[at], part) for at, part in zip(starts, np.split(stays, starts[1:]), strict=True)]
    if len(runs) > MOST_SEGMENTS:
        runs = [(number, stays[owner == number]) for number in np.unique(owner)]
    return tuple(Segment(int(number), len(part), int(part.sum())) for number, part in runs)


def _place(row: Row, groups: Sequence[Group]) -> tuple[int, bool]:
    """Sort key: a layer runs once its last group is there, and after the layer that makes this group."""
    made = {segment.group for bar in row.makes for segment in bar}
    read = {
        segment.group
        for bar in row.reads
        for segment in bar
        if segment.group >= 0 and len(groups[segment.group].members) > 1
    }
    last = max(made | read)
    first_maker = layer_name(groups[last].producer.path) == row.name or groups[last].producer.path == row.name
    return last, not first_maker
