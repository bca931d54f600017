"""Choose along which part of a split axis channels run, and solve the labels.

A reshape that splits an axis so that its channels vary along several parts leaves a choice:
whole heads or the same slice of every head, whole norm groups or one channel of each. All
splits that share labels choose together. The part that covers most of them wins, if it isn't
frozen; among equals one that a mask can stand for, then one whose indices aren't summed
together, then the one with more channels, then the outermost.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from prune_jax.pruning.labels import Classes, Labels, Ledger, Split, classes

Part = tuple[int, int]  # number of a split, number of its child


class Family(NamedTuple):
    """Parts of several splits that are one axis; ``cluster`` numbers the splits that choose together."""

    cluster: int
    parts: tuple[Part, ...]


def _tie(split: Split, k: int) -> tuple[list, list]:
    """Channels of ``split`` run along child ``k``; its other children stay whole."""
    shape = [1] * split.parent.ndim
    shape[k] = -1
    wide = np.broadcast_to(split.children[k].reshape(shape), split.parent.shape)
    others = [(child, split.reason) for n, child in enumerate(split.children) if n != k]
    return [(split.parent.reshape(-1), wide.reshape(-1))], others


def _equal_parents(ledger: Ledger, solved: Classes) -> list:
    """Splits of the same shape whose parents are coupled index by index have coupled children."""
    first: dict[bytes, Split] = {}
    edges: list = []
    for split in ledger.splits:
        core = split.parent
        ids = np.where(core >= 0, solved.of[np.maximum(core, 0)], -1)
        other = first.setdefault(repr(core.shape).encode() + ids.tobytes(), split)
        if other is not split:
            edges += list(zip(other.children, split.children, strict=True))
    return edges


def _close(ledger: Ledger) -> tuple[Classes, list]:
    """Solve, and let equal products have equal parts until nothing new follows."""
    edges: list = []
    solved = classes(ledger)
    while ledger.splits:
        more = _equal_parents(ledger, solved)
        if len(more) == len(edges):
            break
        edges, solved = more, classes(ledger, more)
    return solved, edges


def _components(items: list[list[int]]) -> np.ndarray:
    """Component of each item, where items that share a class are connected."""
    rows = np.repeat(np.arange(len(items)), [len(item) for item in items])
    cols = np.asarray(list(itertools.chain.from_iterable(items)), np.int64)
    graph = coo_array((np.ones(len(rows), bool), (rows, cols))).tocsr()
    return connected_components(graph @ graph.T, directed=False)[1]


def _families(splits: dict[int, Split], solved: Classes) -> list[Family]:
    def ids(labels: Labels) -> set[int]:
        return set(solved.of[labels[labels >= 0]].tolist())

    parts = [(n, k) for n, split in splits.items() for k in range(len(split.children))]
    own = [ids(splits[n].children[k]) for n, k in parts]
    of_part = _components([sorted(s) for s in own])
    everything = [
        set().union(ids(split.parent), *(s for s, (n, _) in zip(own, parts, strict=True) if n == number))
        for number, split in splits.items()
    ]
    of_split = dict(zip(splits, _components([sorted(s) for s in everything]), strict=True))
    found: dict[int, list[Part]] = {}
    for part, family in zip(parts, of_part, strict=True):
        if part[0] not in {n for n, _ in found.get(family, [])}:  # one part per split
            found.setdefault(family, []).append(part)
    return [Family(int(of_split[members[0][0]]), tuple(members)) for members in found.values()]


def _score(ledger: Ledger, solved: Classes, family: Family) -> tuple:
    labels = np.concatenate([ledger.splits[n].children[k] for n, k in family.parts])
    ids = np.unique(solved.of[labels[labels >= 0]])
    frozen = bool((solved.frozen[ids] >= 0).any()) or len(ids) < 2
    unmasked = bool((solved.unmasked[ids] >= 0).any())
    return (frozen, -len(family.parts), unmasked, bool(solved.mixed[ids].any()), -len(ids), family.parts[0])


def _ties(ledger: Ledger, parts: list[Part]) -> tuple[list, list]:
    both = [_tie(ledger.splits[n], k) for n, k in parts]
    return [e for edges, _ in both for e in edges], [f for _, notes in both for f in notes]


def solve(ledger: Ledger) -> Classes:
    """Classes of labels that are cut together, every split's choice made."""
    solved, edges = _close(ledger)
    frozen: list = []
    open_splits = dict(enumerate(ledger.splits))
    while open_splits:
        families = _families(open_splits, solved)
        ranks: dict[int, list[tuple[tuple, Family]]] = {}
        by_cluster = {c: [f for f in families if f.cluster == c] for c in {f.cluster for f in families}}
        for trial in itertools.zip_longest(*by_cluster.values()):  # clusters are tried side by side
            tried = [family for family in trial if family is not None]
            more, notes = _ties(ledger, [part for family in tried for part in family.parts])
            outcome = classes(ledger, edges + more, frozen + notes)
            for family in tried:
                ranks.setdefault(family.cluster, []).append((_score(ledger, outcome, family), family))
        chosen = [part for scored in ranks.values() for part in min(scored)[1].parts]
        more, notes = _ties(ledger, chosen)
        edges, frozen = edges + more, frozen + notes
        solved = classes(ledger, edges, frozen)
        for n, _ in chosen:
            del open_splits[n]
    return solved
