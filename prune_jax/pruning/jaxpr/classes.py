"""Connected components of what a ledger ties together: the channels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from prune_jax.pruning.jaxpr.labels import Labels, Ledger

Edges = Sequence[tuple[Labels, Labels]]
Notes = Sequence[tuple[Labels, int]]  # labels and the number of a reason


class Classes(NamedTuple):
    """Solved labels: class of each label, and per class the first reason (or -1).

    ``factors[c]`` are two classes where class ``c`` is their product, which stays where both stay; else -1
    (``products``). It is None where no class is a product.
    """

    of: np.ndarray
    frozen: np.ndarray
    unmasked: np.ndarray
    mixed: np.ndarray
    factors: np.ndarray | None = None

    def plain(self, labels: Labels) -> np.ndarray:
        """Classes of labels, products replaced by their factors: (labels,), or (labels, 2) with -1 for none.

        The second shape occurs only where one of the labels is of a product.
        """
        own = self.of[labels]
        if self.factors is None or (self.factors[own, 0] < 0).all():
            return own
        both = self.factors[own]
        return np.where(both >= 0, both, np.stack([own, np.full_like(own, -1)], -1))

    def within(self, labels: Labels, ids: np.ndarray) -> np.ndarray:
        """Class of each label that is one of ``ids``, a factor where the label's own class is a product; else -1."""
        mine = np.zeros(len(self.frozen) + 1, bool)
        mine[ids] = True
        plain = self.plain(np.maximum(labels, 0))
        found = np.where(mine[plain], plain, -1)
        found = found if found.ndim == labels.ndim else found.max(-1)
        return np.where(labels >= 0, found, -1)

    def is_inner(self) -> np.ndarray:
        """Which classes are the inner factor of a product: a boolean per class."""
        inner = np.zeros(len(self.frozen) + 1, bool)  # and one for no class
        if self.factors is not None:
            inner[self.factors[:, 1]] = True
        return inner[:-1]

    def gone(self, labels: Labels, positions: np.ndarray) -> np.ndarray:
        """Classes that go where an axis loses these positions (booleans): a factor goes with all positions it has."""
        if self.factors is None:
            return self.of[labels[positions]]
        plain = self.plain(np.maximum(labels, 0))
        lost, left = (plain[there & (labels >= 0)] for there in (positions, ~positions))
        return np.setdiff1d(lost, np.append(left, -1))

    def alive(self, dead: np.ndarray) -> np.ndarray:
        """One boolean per label, where ``dead`` are the classes that go; a product goes with either factor."""
        if self.factors is not None:
            dead = dead | (np.append(dead, False)[self.factors].any(-1))
        return ~dead[self.of]


class Known(NamedTuple):
    """What was solved of a ledger, and how much the ledger held then (``_extent``)."""

    extent: tuple[int, ...]
    solved: Classes


def classes(ledger: Ledger, edges: Edges = (), frozen: Notes = (), unmasked: Notes = ()) -> Classes:
    """Connected components of the ledger's edges (and more, given ones).

    What the ledger itself says is solved once and remembered. Given edges then join its classes to larger ones.
    """
    solved = _of_ledger(ledger)
    if edges:
        solved = _coarser(solved, edges)
    return _noted(solved, frozen, unmasked, ())


def _extent(ledger: Ledger) -> tuple[int, ...]:
    lists = (ledger.edges, ledger.frozen, ledger.unmasked, ledger.mixed)
    return (ledger.count, *(len(entries) for entries in lists))


def _of_ledger(ledger: Ledger) -> Classes:
    """Classes of the ledger alone; only notes that are new are read where no edge is."""
    extent, known = _extent(ledger), ledger.known
    if known is None or known.extent[:2] != extent[:2]:
        known = Known((*extent[:2], 0, 0, 0), _finest(ledger))
    if known.extent != extent:
        frozen, unmasked, mixed = known.extent[2:]
        notes = ledger.frozen[frozen:], ledger.unmasked[unmasked:], ledger.mixed[mixed:]
        known = Known(extent, _noted(known.solved, *notes))
    ledger.known = known
    return known.solved


def _finest(ledger: Ledger) -> Classes:
    """Classes by the ledger's edges, without its notes."""
    place, size, others = _joined_ranges(ledger)
    a, b = _edge_ends(others)
    both = (a >= 0) & (b >= 0)
    n, of = _components(size, place[a[both]], place[b[both]])
    none = np.full(n, -1)
    return _frozen_by_edges(Classes(of[place], none, none, np.zeros(n, bool)), a, b)


def _joined_ranges(ledger: Ledger) -> tuple[np.ndarray, int, Edges]:
    """The place of each label where whole ranges that are coupled share theirs, how many there are, the other edges.

    Most edges couple whole axes, and then one of the axes can stand for all. The first one does, so places are in the
    order of the labels.
    """
    ends: list[tuple[int, int]] = []
    others = []
    for a, b in ledger.edges:
        pair = ledger.ranges.get(id(a), -1), ledger.ranges.get(id(b), -1)
        ends.append(pair) if min(pair) >= 0 and len(a) == len(b) else others.append((a, b))
    starts = np.array(ledger.starts, np.int64)
    sizes = np.diff(np.append(starts, ledger.count))
    of = _components(len(starts), *np.array(ends, np.int64).reshape(-1, 2).T)[1]
    root = np.unique(of, return_index=True)[1][of]
    own = np.where(root == np.arange(len(root)), sizes, 0)
    places = np.cumsum(own) - own
    return np.repeat(places[root] - starts, sizes) + np.arange(ledger.count), int(own.sum()), others


def _components(size: int, a: np.ndarray, b: np.ndarray) -> tuple[int, np.ndarray]:
    """How many connected components there are, and the component of each of ``size`` nodes, in their order."""
    if not len(a):
        return size, np.arange(size, dtype=np.int32)
    # float64 and csr are what connected_components computes with. It converts anything else, slower.
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(size, size)).tocsr()
    return connected_components(graph, directed=False)


def _edge_ends(edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    if not edges:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate([a for a, _ in edges]), np.concatenate([b for _, b in edges])


def _coarser(solved: Classes, edges: Edges) -> Classes:
    """The classes after more edges."""
    a, b = _edge_ends(edges)
    both = (a >= 0) & (b >= 0)
    n, up = _components(len(solved.frozen), solved.of[a[both]], solved.of[b[both]])
    mixed = np.zeros(n, bool)
    mixed[up[solved.mixed]] = True
    frozen, unmasked = (_lifted(first, up, n) for first in (solved.frozen, solved.unmasked))
    return _frozen_by_edges(Classes(up[solved.of], frozen, unmasked, mixed), a, b)


def _lifted(first: np.ndarray, up: np.ndarray, n: int) -> np.ndarray:
    """Reasons of ``n`` larger classes from those of their parts, the lowest each."""
    there = first >= 0
    return first_reasons(np.full(n, -1), up[there], first[there])


def _frozen_by_edges(solved: Classes, a: np.ndarray, b: np.ndarray) -> Classes:
    """An edge to a fixed index freezes."""
    first = solved.frozen
    for free, fixed in ((a, b), (b, a)):
        half = (free >= 0) & (fixed < 0)
        if half.any():
            first = first_reasons(first, solved.of[free[half]], -1 - fixed[half])
    return solved._replace(frozen=first)


def _noted(solved: Classes, frozen: Notes, unmasked: Notes, mixed: Notes) -> Classes:
    """The classes after more notes."""
    if mixed:
        own, _ = _read(mixed)
        both = solved.mixed.copy()
        both[solved.of[own]] = True
        solved = solved._replace(mixed=both)
    for field, notes in (("frozen", frozen), ("unmasked", unmasked)):
        if notes:
            own, whys = _read(notes)
            first = first_reasons(getattr(solved, field), solved.of[own], whys)
            solved = solved._replace(**{field: first})
    return solved


def _read(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """The labels of all notes that aren't fixed, and the reason at each."""
    lowest: dict[int, tuple[Labels, int]] = {}
    for labels, why in notes:  # the same axis is noted many times, as often as it is met
        if id(labels) not in lowest or why < lowest[id(labels)][1]:
            lowest[id(labels)] = labels, why
    flat = [labels.reshape(-1) for labels, _ in lowest.values()]
    labels = np.concatenate(flat)
    whys = np.repeat([why for _, why in lowest.values()], [len(each) for each in flat])
    return labels[labels >= 0], whys[labels >= 0]


def first_reasons(first: np.ndarray, where: np.ndarray, why: np.ndarray) -> np.ndarray:
    """Lowest reason per class after the classes ``where`` got the reasons ``why`` too; -1 for none."""
    none = np.iinfo(np.int64).max
    first = np.where(first < 0, none, first)
    np.minimum.at(first, where, why)
    return np.where(first == none, -1, first)
