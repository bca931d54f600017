"""Choose along which part of a split axis channels run, and solve the labels.

A reshape that splits an axis so that its channels vary along several parts leaves a choice:
whole heads or the same slice of every head, whole norm groups or one channel of each. All
splits that share labels choose together, so that first as few of them as possible are frozen,
then a mask can stand for as many as possible, then as few as possible sum their indices together,
then there are as many channels as possible, then the outermost part wins.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from prune_jax.pruning.jaxpr.labels import Classes, Labels, Ledger, Split, classes

Part = tuple[int, int]  # number of a split, number of its child


_WORST = (float("inf"),)


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


def _classes_of(solved: Classes, labels: Labels) -> np.ndarray:
    return np.unique(solved.of[labels[labels >= 0]])


def _rank(ledger: Ledger, solved: Classes, parts: Sequence[Part]) -> tuple:
    """Lower is better: frozen splits, splits without a mask, splits summed together, channels, order.

    A split of a part that stays whole, like the pairs of a head's dimensions where whole heads are cut, isn't counted.
    """
    counts = np.zeros(3, np.int64)
    size = 0
    for number, k in parts:
        if _is_idle(ledger, solved, number):
            continue
        ids = _classes_of(solved, ledger.splits[number].children[k])
        counts += (
            bool((solved.frozen[ids] >= 0).any()) or len(ids) < 2,
            bool((solved.unmasked[ids] >= 0).any()),
            bool(solved.mixed[ids].any()),
        )
        size += len(ids)
    return (*counts.tolist(), -size, [k for _, k in parts])


def _is_idle(ledger: Ledger, solved: Classes, number: int) -> bool:
    """Whether a split divides what another split keeps whole."""
    split = ledger.splits[number]
    reasons = solved.frozen[_classes_of(solved, split.parent)]
    others = [other.reason for other in ledger.splits if other is not split]
    return bool(len(reasons) and np.isin(reasons, others).all())


class _State(NamedTuple):
    """Splits decided so far, what follows, and the labels solved with it."""

    parts: list[Part]
    choice: Choice
    solved: Classes


def _decide(ledger: Ledger, state: _State, parts: list[Part]) -> _State:
    choice = _choose(ledger, parts, state.choice)
    return _State([*state.parts, *parts], choice, classes(ledger, *choice))


def _clusters(families: list[Family]) -> dict[int, list[Family]]:
    out: dict[int, list[Family]] = {}
    for family in families:
        out.setdefault(family.cluster, []).append(family)
    return out


def _complete(ledger: Ledger, state: _State) -> _State:
    """Decide the splits that are still open, by what is known of their parts already."""

    def key(family: Family) -> tuple:
        frozen, *rest = _rank(ledger, state.solved, family.parts)
        return (frozen > 0, -len(family.parts), *rest)

    while len(state.parts) < len(ledger.splits):
        done = {number for number, _ in state.parts}
        left = {n: split for n, split in enumerate(ledger.splits) if n not in done}
        clusters = _clusters(_families(left, state.solved)).values()
        state = _decide(
            ledger, state, [part for families in clusters for part in min(families, key=key).parts]
        )
    return state


def solve(ledger: Ledger) -> Classes:
    """Classes of labels that are cut together, every split's choice made.

    Each family of a cluster is tried as the one that leads it; clusters are tried side by side.
    """
    solved, edges = _close(ledger)
    start = _State([], Choice(edges, [], []), solved)
    if not ledger.splits:
        return solved
    clusters = _clusters(_families(dict(enumerate(ledger.splits)), solved))
    best: dict[int, tuple[tuple, list[Part]]] = {}
    for trial in itertools.zip_longest(*clusters.values()):
        leads = [part for family in trial if family for part in family.parts]
        outcome = _complete(ledger, _decide(ledger, start, leads))
        made = dict(outcome.parts)
        for cluster, family in zip(clusters, trial, strict=True):
            if family is not None:
                numbers = {number for f in clusters[cluster] for number, _ in f.parts}
                parts = sorted((n, made[n]) for n in numbers)
                best[cluster] = min(
                    best.get(cluster, (_WORST, [])),
                    (_rank(ledger, outcome.solved, parts), parts),
                    key=lambda x: x[0],
                )
    return _decide(ledger, start, [part for _, parts in best.values() for part in parts]).solved
