"""Kinds of channels: those that lie on the same leaf axes, frozen alike and maskable alike."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array

from prune_jax.pruning.jaxpr.classes import Classes
from prune_jax.pruning.jaxpr.labels import Labels


class LeafAxes(NamedTuple):
    """Classes along leaf axes. Axes that hold the same ones, as most do, share a row.

    ``classes`` has an array for each row: (positions,), or (positions, 2) where some are products of two. ``axes`` has
    the numbers of each row's axes. ``row`` has the row of each axis.
    """

    classes: list[np.ndarray]
    axes: list[list[int]]
    row: list[int]


class Kinds(NamedTuple):
    """Classes and rows of each kind, and ``of``: the kind of each class. -1 stands for none, at its end too."""

    ids: list[np.ndarray]
    rows: list[np.ndarray]
    of: np.ndarray
    leaf_axes: LeafAxes

    def along(self, row: int, kind: int) -> np.ndarray:
        """The class at each position of a row where that is of the kind, else -1."""
        plain = self.leaf_axes.classes[row]
        mine = np.where(self.of[plain] == kind, plain, -1)
        return mine if mine.ndim == 1 else mine.max(-1)  # of two factors at most one is of this kind

    def axes(self, kind: int) -> list[int]:
        """Numbers of the leaf axes that hold the kind."""
        return sorted(number for row in self.rows[kind] for number in self.leaf_axes.axes[row])


def _leaf_axes(labels: Sequence[Labels], solved: Classes) -> LeafAxes:
    rows: dict[bytes, int] = {}
    found = LeafAxes([], [], [])
    for number, axis in enumerate(labels):
        row = rows.setdefault(solved.of[axis].tobytes(), len(rows))
        if row == len(found.classes):
            found.classes.append(solved.plain(axis))
            found.axes.append([])
        found.axes[row].append(number)
        found.row.append(row)
    return found


def _positions(leaf_axes: LeafAxes, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (class, row) for every class and row that it has positions on, sorted."""
    flat = [each.reshape(-1) for each in leaf_axes.classes]
    ids = np.concatenate(flat)
    numbers = np.repeat(np.arange(len(flat)), [len(each) for each in flat])[ids >= 0]
    ids = ids[ids >= 0]
    # A sparse table of occurrences sorts in linear time.
    table = coo_array((np.ones(len(ids), bool), (ids, numbers)), shape=(classes, len(flat))).tocsr()
    table.sum_duplicates()
    return np.repeat(np.arange(classes), np.diff(table.indptr)), table.indices.astype(np.int64)


def _signatures(starts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """128 bits per class that stand for its set of rows: sums of one random number per row."""
    table = np.random.default_rng(0).integers(0, 2**63, (numbers.max(initial=0) + 1, 2)).astype(np.uint64)
    return np.add.reduceat(table[numbers], starts)


def kinds(labels: Sequence[Labels], solved: Classes) -> Kinds:
    """Kinds of the classes that leaf axes with these labels hold."""
    of = np.full(len(solved.frozen) + 1, -1)
    found = Kinds([], [], of, _leaf_axes(labels, solved))
    if not len(labels):
        return found
    ids, numbers = _positions(found.leaf_axes, len(solved.frozen))
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    ends = np.r_[starts[1:], len(ids)]
    own = ids[starts]
    marks = np.column_stack([_signatures(starts, numbers), _state(solved, own).astype(np.uint64)])
    order = np.lexsort(marks.T)  # stable, and np.unique(axis=0) is several times slower
    new = np.flatnonzero((marks[order][1:] != marks[order][:-1]).any(axis=1)) + 1
    firsts = order[np.r_[0, new]]
    for kind, (mine, k) in enumerate(zip(np.split(own[order], new), firsts, strict=True)):
        of[mine] = kind
        found.ids.append(mine)
        found.rows.append(numbers[starts[k] : ends[k]])
    return found


def _state(solved: Classes, ids: np.ndarray) -> np.ndarray:
    """A number for each class: equal where they are frozen, maskable and part of a product alike."""
    state = (solved.frozen[ids] >= 0) * 2 + (solved.unmasked[ids] >= 0)
    if solved.factors is not None:  # heads and the parts inside of them
        state = state + 4 * solved.is_inner()[ids]
    return state
