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

from prune_jax.pruning.jaxpr.labels import Classes, Labels, Ledger, Split, classes

Part = tuple[int, int]  # number of a split, number of its child


class Family(NamedTuple):
    """Parts of several splits that are one axis; ``cluster`` numbers the splits that choose together."""

    cluster: int
    parts: tuple[Part, ...]


class Choice(NamedTuple):
    """What follows from choosing carriers: couplings, and channels that freeze or lose their mask."""

    edges: list[tuple[Labels, Labels]]
    frozen: list[tuple[Labels, int]]
    unmasked: list[tuple[Labels, int]]


def _choose(ledger: Ledger, parts: list[Part], before: Choice) -> Choice:
    """Channels of each split run along the given child; its other children stay whole."""
    edges, frozen, unmasked = list(before.edges), list(before.frozen), list(before.unmasked)
    for number, k in parts:
        split = ledger.splits[number]
        shape = [1] * split.parent.ndim
        shape[k] = -1
        wide = np.broadcast_to(split.children[k].reshape(shape), split.parent.shape)
        edges.append((split.parent.reshape(-1), wide.reshape(-1)))
        frozen += [(child, split.reason) for n, child in enumerate(split.children) if n != k]
        if split.assumed not in (None, k):
            unmasked.append((split.children[k], split.reason))
    return Choice(edges, frozen, unmasked)


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


def _best(ledger: Ledger, families: list[Family], before: Choice) -> list[Part]:
    """The parts of the best family of each cluster; clusters are tried side by side."""
    by_cluster: dict[int, list[Family]] = {}
    for family in families:
        by_cluster.setdefault(family.cluster, []).append(family)
    ranks: dict[int, list[tuple[tuple, Family]]] = {}
    for trial in itertools.zip_longest(*by_cluster.values()):
        tried = [family for family in trial if family is not None]
        outcome = classes(ledger, *_choose(ledger, [part for f in tried for part in f.parts], before))
        for family in tried:
            ranks.setdefault(family.cluster, []).append((_score(ledger, outcome, family), family))
    return [part for scored in ranks.values() for part in min(scored)[1].parts]


def solve(ledger: Ledger) -> Classes:
    """Classes of labels that are cut together, every split's choice made."""
    solved, edges = _close(ledger)
    choice = Choice(edges, [], [])
    open_splits = dict(enumerate(ledger.splits))
    while open_splits:
        parts = _best(ledger, _families(open_splits, solved), choice)
        choice = _choose(ledger, parts, choice)
        solved = classes(ledger, *choice)
        for number, _ in parts:
            del open_splits[number]
    return solved
