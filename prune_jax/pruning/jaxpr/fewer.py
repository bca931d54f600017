"""Which channels a second trace goes without, so that it shows which constants follow the sizes.

Groups that one constant may stand for lose different numbers of channels, so that it tells which of them it follows.
Others may lose the same number. Blocks that were alike then stay alike, and JAX traces what they share only once.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from prune_jax.pruning.jaxpr.classes import Classes
from prune_jax.pruning.jaxpr.groups import Group, Slot
from prune_jax.pruning.jaxpr.sizes import Doubt


def a_few_less(
    groups: Sequence[Group], slots: Sequence[Slot], solved: Classes, doubts: Iterable[Doubt]
) -> dict[str, Any]:
    """A keep that drops a few channels of every doubted group, of those in one doubt each another number if it can."""
    free = [group for group in groups if group.frozen is None and group.size > 1]
    owners = _owners(free, slots, solved)
    rivals: dict[int, set[int]] = {}
    for doubt in doubts:
        together = _groups_of(doubt, owners, solved)
        for number in together:
            rivals.setdefault(number, set()).update(together)
    gone: dict[int, int] = {}
    for number in sorted(rivals):
        taken = {gone[other] for other in rivals[number] if other in gone}
        gone[number] = next(n for n in range(1, len(taken) + 2) if n not in taken)
    return {free[k].name: np.arange(min(n, free[k].size - 1), free[k].size) for k, n in sorted(gone.items())}


def _owners(groups: Sequence[Group], slots: Sequence[Slot], solved: Classes) -> list[np.ndarray]:
    """The number of the group that each class belongs to, or -1; more arrays where a class belongs to several.

    A product and its factors belong to the groups of both factors.
    """
    labels = {(slot.path, slot.axis): slot.labels for slot in slots}
    owners: list[np.ndarray] = []
    for number, group in enumerate(groups):
        path, axis, index = group.producer
        own = labels[path, axis][index >= 0]
        plain = solved.plain(own)
        ids = np.concatenate([solved.of[own], plain[plain >= 0]])
        layer = next((each for each in owners if (each[ids] < 0).all()), None)
        if layer is None:
            layer = np.full(len(solved.frozen), -1)
            owners.append(layer)
        layer[ids] = number
    return owners


def _groups_of(doubt: Doubt, owners: Iterable[np.ndarray], solved: Classes) -> set[int]:
    """Numbers of the groups whose size the constant may stand for."""
    axes = [labels for candidate in doubt.candidates for labels in candidate.axes]
    ids = solved.of[np.concatenate([labels[labels >= 0] for labels in axes])]
    return {number for layer in owners for number in np.unique(layer[ids]).tolist() if number >= 0}
