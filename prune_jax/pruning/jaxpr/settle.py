"""Settle every constant that may stand for the size of prunable channels."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from prune_jax.pruning.cutting import shrink
from prune_jax.pruning.jaxpr import doubts
from prune_jax.pruning.jaxpr.groups import Group, Slot, build
from prune_jax.pruning.jaxpr.labels import Classes, Ledger, classes
from prune_jax.pruning.jaxpr.reading import Reading, read
from prune_jax.pruning.jaxpr.second_trace import constants_after
from prune_jax.pruning.jaxpr.solve import solve
from prune_jax.pruning.slimming.survivors import alive_labels, stays


def settle_sizes(reading: Reading, apply: Callable, params: Any, inputs: tuple) -> None:
    """Write to the ledger which constants are sizes; freeze channels where that can't be proved."""
    ledger = reading.ledger
    if not ledger.doubts:
        return
    solved = classes(ledger)
    held = np.zeros(len(solved.frozen), bool)
    for slot in reading.slots:
        held[solved.of[slot.labels]] = True
    left = []
    for number, doubt in enumerate(ledger.doubts):
        if doubts.matters(doubt, solved, held):
            settled, baked = doubts.by_source(doubt)
            if settled:
                doubts.apply_verdict(ledger, number, settled, baked)
            else:
                left.append(number)
    if left:
        _by_second_trace(reading, left, apply, params, inputs)


def _by_second_trace(
    reading: Reading, numbers: list[int], apply: Callable, params: Any, inputs: tuple
) -> None:
    ledger = reading.ledger
    solved = solve(ledger)
    groups = build(ledger, reading.slots, solved)
    keep = _one_less(groups, reading.slots, solved, _doubted(ledger, numbers, solved))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), params)
    smaller = shrink(shapes, groups, keep)
    after = constants_after(reading.body, lambda: read(apply, smaller, inputs).body, ledger)
    alive = alive_labels(groups, reading.slots, solved, keep)
    for number in numbers:
        verdict = doubts.by_retrace(
            ledger.doubts[number], lambda axis: int(stays(axis, alive).sum()), after.get(number)
        )
        doubts.apply_verdict(ledger, number, *verdict)


def _doubted(ledger: Ledger, numbers: list[int], solved: Classes) -> np.ndarray:
    """Classes whose size some constant may stand for."""
    hit = np.zeros(len(solved.frozen), bool)
    for number in numbers:
        for candidate in ledger.doubts[number].candidates:
            for labels in candidate.axes:
                hit[solved.of[labels[labels >= 0]]] = True
    return hit


def _one_less(
    groups: tuple[Group, ...], slots: list[Slot], solved: Classes, hit: np.ndarray
) -> dict[str, Any]:
    """A keep that drops the first channel of every doubted group that can lose one."""
    labels = {(slot.path, slot.axis): slot.labels for slot in slots}
    keep = {}
    for group in groups:
        path, axis, index = group.producer
        mine = solved.of[labels[path, axis][index >= 0]]
        if group.frozen is None and group.size > 1 and hit[mine].any():
            keep[group.name] = np.arange(1, group.size)
    return keep
