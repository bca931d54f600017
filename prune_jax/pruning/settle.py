"""Settle every constant that may stand for the size of prunable channels."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from prune_jax.pruning.cutting import shrink
from prune_jax.pruning.jaxpr import doubts
from prune_jax.pruning.jaxpr.classes import classes
from prune_jax.pruning.jaxpr.fewer import a_few_less
from prune_jax.pruning.jaxpr.groups import build
from prune_jax.pruning.jaxpr.labels import Labels
from prune_jax.pruning.jaxpr.reading import Reading, read_bare
from prune_jax.pruning.jaxpr.second_trace import Bare, constants_after
from prune_jax.pruning.jaxpr.solve import solve
from prune_jax.pruning.survivors import alive_labels, stays


def settle_sizes(reading: Reading, apply: Callable, params: Any, inputs: tuple) -> None:
    """Write to the ledger which constants are sizes. Freeze channels where that can't be proved."""
    ledger = reading.ledger
    if not ledger.doubts:
        return
    cuttable = _cuttable(reading)
    left = []
    for number, doubt in enumerate(ledger.doubts):
        narrowed = doubts.relevant(doubt, cuttable)
        if narrowed is not None:
            ledger.doubts[number] = narrowed
            verdict = doubts.by_source(narrowed)
            if verdict is None:
                left.append(number)
            else:
                doubts.apply_verdict(ledger, number, verdict)
    if left:
        _by_second_trace(reading, left, lambda smaller: read_bare(apply, smaller, inputs), params)


def _cuttable(reading: Reading) -> Callable[[Labels], bool]:
    """Whether an axis has channels of params leaves that aren't frozen."""
    ledger = reading.ledger
    solved = classes(ledger)
    # A part of a split axis has no leaf of its own before the choice is made. It counts if the whole has.
    loose = [
        (np.resize(split.parent.reshape(-1), len(child)), child)
        for split in ledger.splits
        for child in split.children
    ]
    wide = classes(ledger, loose).of if loose else solved.of
    held = np.zeros(len(solved.frozen), bool)
    for slot in reading.slots:
        held[wide[slot.labels]] = True

    def cuttable(labels: Labels) -> bool:
        own = labels[labels >= 0]
        return bool((held[wide[own]] & (solved.frozen[solved.of[own]] < 0)).any())

    return cuttable


def _by_second_trace(
    reading: Reading, numbers: list[int], traced: Callable[[Any], Bare], params: Any
) -> None:
    ledger = reading.ledger
    solved = solve(ledger)
    groups = build(ledger, reading.slots, solved)
    keep = a_few_less(groups, reading.slots, solved, [ledger.doubts[number] for number in numbers])
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), params)
    smaller = shrink(shapes, groups, keep)
    after = constants_after(reading.body, lambda: traced(smaller), ledger, set(numbers))
    alive = alive_labels(groups, reading.slots, solved, keep)

    def length(axis: Labels) -> int:
        return int(stays(axis, alive).sum())

    for number in numbers:
        doubt = ledger.doubts[number]
        verdict = (
            doubts.by_retrace(doubt, length, after[number])
            if number in after
            else doubts.without_trace(doubt)
        )
        doubts.apply_verdict(ledger, number, verdict)
