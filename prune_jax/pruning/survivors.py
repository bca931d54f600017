"""Which labels a keep leaves alive."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prune_jax.pruning.jaxpr.classes import Classes
from prune_jax.pruning.jaxpr.groups import Group, Slot
from prune_jax.pruning.jaxpr.labels import Labels
from prune_jax.pruning.jaxpr.sizes import Baked
from prune_jax.pruning.keep import checked


class Cut(NamedTuple):
    """What a walk is re-evaluated with: living labels, and constants that stand for sizes."""

    alive: np.ndarray
    verdicts: Mapping[int, Baked]


def same_groups(given: Sequence[Group], found: Sequence[Group]) -> None:
    """Raise ValueError where the groups weren't found in this network."""
    for a, b in zip(given, found, strict=False):
        if a.name != b.name or a.size != b.size:
            raise ValueError(
                f"group {a.name!r} of {a.size} channels isn't in this network, which has {b.name!r} of {b.size} there; "
                "find the groups with the same apply, params and kind of inputs"
            )
    if len(given) != len(found):
        raise ValueError(
            f"{len(given)} groups were given, but this network has {len(found)}: pass all of them"
        )


def alive_by_position(
    groups: Sequence[Group],
    slots: Sequence[Slot],
    solved: Classes,
    keep: Mapping[str, Any],
    reasons: Sequence[Any],
) -> np.ndarray:
    """One boolean per label, where ``groups`` were found by another trace of the same network.

    In training mode other channels may go by other names, and what is one group there may be two here. So positions
    on the leaves say what is cut. Raises ValueError where this trace can't cut exactly these positions.
    """
    labels = {(slot.path, slot.axis): slot.labels for slot in slots}
    kept, dead = checked(groups, keep), np.zeros(len(solved.frozen), bool)
    gone = {at: np.zeros(len(axis), bool) for at, axis in labels.items()}
    for group in groups:
        for path, axis, index in group.members:
            if len(labels.get((path, axis), ())) != len(index):
                raise ValueError(f"group {group.name!r} cuts axis {axis} of leaf {path!r}, which isn't here")
            if group.name in kept:
                gone[path, axis] |= (index >= 0) & ~np.isin(index, kept[group.name])
    for at, positions in gone.items():
        dead[solved.gone(labels[at], positions)] = True
    alive = solved.alive(dead)
    _refuse_uneven(labels, gone, dead, alive, solved, reasons)
    return alive


def _refuse_uneven(
    labels: Mapping[tuple[str, int], Labels],
    gone: Mapping[tuple[str, int], np.ndarray],
    dead: np.ndarray,
    alive: np.ndarray,
    solved: Classes,
    reasons: Sequence[Any],
) -> None:
    for frozen in solved.frozen[dead]:
        if frozen >= 0:
            raise ValueError(f"what is to be cut is frozen in this function: {reasons[frozen]}")
    for (path, axis), positions in gone.items():
        mine = labels[path, axis]
        there = (mine >= 0) & ~alive[np.maximum(mine, 0)]
        if (there != positions).any():
            raise ValueError(
                f"in this function other indices of axis {axis} of leaf {path!r} go than the groups say; find the "
                "groups with this function"
            )


def alive_labels(
    groups: Sequence[Group], slots: Sequence[Slot], solved: Classes, keep: Mapping[str, Any]
) -> np.ndarray:
    """One boolean per label: False where its channel is pruned."""
    labels = {(slot.path, slot.axis): slot.labels for slot in slots}
    dead = np.zeros(len(solved.frozen), bool)
    kept = checked(groups, keep)
    for group in groups:
        if group.name in kept:
            path, axis, index = group.producer
            gone = (index >= 0) & ~np.isin(index, kept[group.name])
            dead[solved.gone(labels[path, axis], gone)] = True
    return solved.alive(dead)


def stays(labels: Labels, alive: np.ndarray) -> np.ndarray:
    """Which positions of an axis stay."""
    return (labels < 0) | alive[np.maximum(labels, 0)] if len(alive) else np.ones(len(labels), bool)


def is_cut(labels: Labels, alive: np.ndarray) -> bool:
    """Whether an axis loses anything."""
    if labels.strides == (0,) and labels.size and labels[0] < 0:
        return False
    return not stays(labels, alive).all()


def small_shape(axes: Sequence[Labels], alive: np.ndarray) -> tuple[int, ...]:
    """Shape after the cut."""
    return tuple(int(stays(labels, alive).sum()) if is_cut(labels, alive) else len(labels) for labels in axes)


def axis_moves(body: Any, alive: np.ndarray) -> Iterator[tuple[int, int]]:
    """(size before, size after) of every axis in a walked jaxpr that loses something."""
    for node in body.nodes:
        for value in node.outs:
            small = small_shape(value.axes, alive)
            yield from ((old, new) for old, new in zip(value.shape, small, strict=True) if old != new)
        for inner in node.bodies:
            yield from axis_moves(inner, alive)
