"""Which labels a keep leaves alive."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prune_jax.pruning.jaxpr.groups import Group, Slot
from prune_jax.pruning.jaxpr.labels import Classes, Labels
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


def alive_labels(
    groups: Sequence[Group], slots: Sequence[Slot], solved: Classes, keep: Mapping[str, Any]
) -> np.ndarray:
    """One boolean per label: False where its channel is pruned."""
    labels = {(slot.path, slot.axis): slot.labels for slot in slots}
    dead = np.zeros(len(solved.frozen) + 1, bool)
    kept = checked(groups, keep)
    for group in groups:
        if group.name in kept:
            path, axis, index = group.producer
            gone = (index >= 0) & ~np.isin(index, kept[group.name])
            dead[solved.of[labels[path, axis][gone]]] = True
    return ~dead[solved.of]


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
