"""Connected components of what a ledger ties together: the channels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from prune_jax.pruning.jaxpr.labels import Labels, Ledger

Edges = Sequence[tuple[Labels, Labels]]
Notes = Sequence[tuple[Labels, int]]  # labels and the number of a reason


class Components(NamedTuple):
    """Connected components of ``labels`` labels under ``edges`` edges, whose ends are ``a`` and ``b``."""

    labels: int
    edges: int
    a: np.ndarray
    b: np.ndarray
    classes: int
    of: np.ndarray


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
        """Classes of labels, products replaced by their factors: (labels,), or (labels, 2) with -1 for none."""
        own = self.of[labels]
        if self.factors is None:
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


def _edge_ends(edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    if not edges:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate([a for a, _ in edges]), np.concatenate([b for _, b in edges])


def _first_reason(of: np.ndarray, n: int, notes: Notes, extra: Notes = ()) -> np.ndarray:
    """Lowest reason number per class, -1 where there is none."""
    both = [*notes, *extra]
    if not both:
        return np.full(n, -1)
    all_labels = [np.asarray(labels).reshape(-1) for labels, _ in both]
    labels = np.concatenate(all_labels)
    whys = np.repeat([why for _, why in both], [len(each) for each in all_labels])
    own = labels >= 0
    return first_reasons(np.full(n, -1), of[labels[own]], whys[own])


def classes(ledger: Ledger, edges: Edges = (), frozen: Notes = (), unmasked: Notes = ()) -> Classes:
    """Connected components of the ledger's edges (and more, given ones)."""
    _, _, a, b, n, of = _components(ledger, edges)
    first = _first_reason(of, n, ledger.frozen, frozen)
    for free, fixed in ((a, b), (b, a)):  # an edge to a fixed index freezes
        half = (free >= 0) & (fixed < 0)
        first = first_reasons(first, of[free[half]], -1 - fixed[half])
    counted = _first_reason(of, n, ledger.unmasked, unmasked)
    return Classes(of, first, counted, _first_reason(of, n, ledger.mixed) >= 0)


def _components(ledger: Ledger, edges: Edges) -> Components:
    """Classes under the ledger's edges and the given ones; without those remembered until the ledger grows."""
    known = ledger.components
    if known is not None and not edges and (known.labels, known.edges) == (ledger.count, len(ledger.edges)):
        return known
    a, b = _edge_ends([*ledger.edges, *edges])
    both = (a >= 0) & (b >= 0)
    # float64 and csr are what connected_components computes with; it converts anything else, slower.
    graph = coo_array((np.ones(both.sum()), (a[both], b[both])), shape=(ledger.count,) * 2).tocsr()
    n, of = connected_components(graph, directed=False) if ledger.count else (0, np.zeros(0, int))
    found = Components(ledger.count, len(ledger.edges), a, b, n, of)
    if not edges:
        ledger.components = found
    return found


def first_reasons(first: np.ndarray, where: np.ndarray, why: np.ndarray) -> np.ndarray:
    """Lowest reason per class after the classes ``where`` got the reasons ``why`` too; -1 for none."""
    none = np.iinfo(np.int64).max
    first = np.where(first < 0, none, first)
    np.minimum.at(first, where, why)
    return np.where(first == none, -1, first)
