"""Choose along which part of a split axis channels run, and solve the labels.

A reshape that splits an axis so that its channels vary along several parts leaves a choice:
whole heads or the same slice of every head, whole norm groups or one channel of each. All
splits that share labels choose together, so that first as few of them as possible are frozen,
then a mask can stand for as many as possible, then as few as possible sum their indices together,
then there are as many channels as possible, then the outermost part wins.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from prune_jax.pruning.jaxpr.classes import Classes, classes
from prune_jax.pruning.jaxpr.labels import Labels, Ledger, Split
from prune_jax.pruning.jaxpr.products import joined, paired, possible

Part = tuple[int, int]  # number of a split, number of its child


_WORST = (float("inf"),)


class Family(NamedTuple):
    """Parts of several splits that are one axis. ``cluster`` numbers the splits that choose together."""

    cluster: int
    parts: tuple[Part, ...]


class Choice(NamedTuple):
    """What follows from choosing carriers: couplings, and channels that freeze or lose their mask."""

    edges: list[tuple[Labels, Labels]]
    frozen: list[tuple[Labels, int]]
    unmasked: list[tuple[Labels, int]]


def _choose(ledger: Ledger, parts: list[Part], before: Choice) -> Choice:
    """Channels of each split run along the given child. Its other children stay whole."""
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
    grown = ledger.count, len(ledger.edges), len(ledger.splits)
    if ledger.closed is not None and ledger.closed[0] == grown:
        return classes(ledger, ledger.closed[1]), ledger.closed[1]
    edges: list = []
    solved = classes(ledger)
    while ledger.splits:
        more = _equal_parents(ledger, solved)
        if len(more) == len(edges):
            break
        edges, solved = more, classes(ledger, more)
    ledger.closed = grown, edges
    return solved, edges


def _components(items: list[np.ndarray]) -> np.ndarray:
    """Component of each item, where items that share a class are connected."""
    rows = np.repeat(np.arange(len(items)), [len(item) for item in items])
    cols = len(items) + np.concatenate(items)
    size = int(cols.max(initial=0)) + 1
    graph = coo_array((np.ones(len(rows)), (rows, cols)), shape=(size, size)).tocsr()
    return connected_components(graph, directed=False)[1][: len(items)]


def _families(splits: dict[int, Split], solved: Classes) -> list[Family]:
    def ids(labels: Labels) -> np.ndarray:
        return solved.of[labels[labels >= 0]]

    parts = [(n, k) for n, split in splits.items() for k in range(len(split.children))]
    own = [ids(splits[n].children[k]) for n, k in parts]
    of_part = _components(own)
    everything = [
        np.concatenate([ids(split.parent), *(s for s, (n, _) in zip(own, parts, strict=True) if n == number)])
        for number, split in splits.items()
    ]
    of_split = dict(zip(splits, _components(everything), strict=True))
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
    """Whether a split divides what another split keeps whole. In an excerpt only splits have reasons above 0."""
    split = ledger.splits[number]
    reasons = solved.frozen[solved.of[split.parent[split.parent >= 0]]]
    return bool(len(reasons) and ((reasons > 0) & (reasons != split.reason)).all())


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


def _excerpt(ledger: Ledger, solved: Classes, numbers: list[int]) -> Ledger:
    """A ledger of some splits alone, whose labels are the classes that they touch: all that their choice hangs on.

    Reason 0 is whatever froze or unmasked a class before. Split n of the excerpt has reason n + 1.
    """
    splits = [ledger.splits[number] for number in numbers]
    touched = np.unique(
        np.concatenate([_classes_of(solved, x) for s in splits for x in (s.parent, *s.children)])
    )
    small = Ledger()
    small.fresh(len(touched))

    def within(labels: Labels) -> Labels:
        return np.where(labels < 0, -1, np.searchsorted(touched, solved.of[np.maximum(labels, 0)]))

    for n, split in enumerate(splits):
        children = tuple(within(child) for child in split.children)
        small.splits.append(Split(within(split.parent), children, n + 1, split.assumed))
    small.frozen = [(np.flatnonzero(solved.frozen[touched] >= 0), 0)]
    small.unmasked = [(np.flatnonzero(solved.unmasked[touched] >= 0), 0)]
    small.mixed = [(np.flatnonzero(solved.mixed[touched]), 0)]
    return small


def _fingerprint(small: Ledger) -> bytes:
    """Equal for excerpts that are the same problem, like those of a network's repeated blocks."""
    arrays = [x for s in small.splits for x in (s.parent, *s.children)]
    arrays += [notes[0][0] for notes in (small.frozen, small.unmasked, small.mixed)]
    shapes = repr([(small.count, s.assumed) for s in small.splits]) + repr([x.shape for x in arrays])
    return shapes.encode() + b"".join(x.astype(np.int32).tobytes() for x in arrays)


def _best(small: Ledger) -> list[Part]:
    """Each family of parts is tried as the one that leads the choice. Returns the best outcome's parts."""
    start = _State([], Choice([], [], []), classes(small))
    best: tuple[tuple, list[Part]] = (_WORST, [])
    for family in _families(dict(enumerate(small.splits)), start.solved):
        outcome = _complete(small, _decide(small, start, list(family.parts)))
        parts = sorted(outcome.parts)
        best = min(best, (_rank(small, outcome.solved, parts), parts), key=lambda x: x[0])
    return best[1]


def _without_choice(ledger: Ledger, solved: Classes) -> tuple[dict[int, Split], list[tuple[Labels, int]]]:
    """The splits that leave a choice, and what the others freeze: a product of frozen parts is frozen."""
    frozen = solved.frozen.copy()
    notes: list[tuple[Labels, int]] = []
    left, before = dict(enumerate(ledger.splits)), -1
    while len(left) != before:  # once in the network's order and once to see that nothing follows, as a rule
        before = len(left)
        for number, split in list(left.items()):
            why = _frozen_by(frozen, solved.of, split.children)
            if why >= 0:
                parent = left.pop(number).parent.reshape(-1)
                ids = solved.of[parent[parent >= 0]]
                frozen[ids] = np.where(frozen[ids] < 0, why, frozen[ids])
                notes.append((parent, why))
    return left, notes


def _frozen_by(frozen: np.ndarray, of: np.ndarray, children: tuple[Labels, ...]) -> int:
    """First reason of parts that are all frozen at every index. -1 where they aren't."""
    reasons = [frozen[of[child[child >= 0]]] for child in children]
    fixed = [-1 - child[child < 0] for child in children]
    every = np.concatenate([*reasons, *fixed])
    return int(every.min()) if len(every) else -1


def _with_leaves(ledger: Ledger, solved: Classes) -> np.ndarray:
    """Which classes are of params leaves: a boolean per class."""
    held = np.zeros(len(solved.frozen), bool)
    held[solved.of[: ledger.owned]] = True
    return held


def _touch(held: np.ndarray, solved: Classes, splits: Iterable[Split]) -> bool:
    """Whether any class of these splits is one of ``held``."""
    return any(held[solved.of[x[x >= 0]]].any() for s in splits for x in (s.parent, *s.children))


def solve(ledger: Ledger) -> Classes:
    """Classes of labels that are cut together, every split's choice made.

    Splits that share no class choose apart, each set on a ledger of its own, and equal problems are solved once.
    """
    solved, edges = _close(ledger)
    if not ledger.splits:
        return solved
    splits, notes = _without_choice(ledger, solved)
    held = _with_leaves(ledger, solved)
    chosen: list[Part] = []
    for families in _clusters(_families(splits, solved)).values() if splits else ():
        numbers = sorted({number for family in families for number, _ in family.parts})
        if not _touch(held, solved, (ledger.splits[number] for number in numbers)):
            continue  # no leaf hangs on the choice
        small = _excerpt(ledger, solved, numbers)
        key = _fingerprint(small)
        if key not in ledger.choices:
            ledger.choices[key] = _best(small)
        chosen += [(numbers[n], k) for n, k in ledger.choices[key]]
    return _with_products(ledger, chosen, Choice(edges, notes, []))


def _with_products(ledger: Ledger, chosen: list[Part], before: Choice) -> Classes:
    """The labels solved. Where a part's indices go in pairs beside the chosen part, both may lose channels."""
    solved = classes(ledger, *_choose(ledger, chosen, before))
    found = paired(ledger, solved, chosen)
    while found:
        both = {product.split: product for product in found}
        choice = _choose(ledger, [part for part in chosen if part[0] not in both], before)
        frozen = [
            (child, ledger.splits[n].reason)
            for n, _, inner in found
            for k, child in enumerate(ledger.splits[n].children)
            if k not in (both[n].outer, inner)
        ]
        opened = classes(ledger, choice.edges, [*choice.frozen, *frozen], choice.unmasked)
        left = possible(ledger, opened, found)
        if left == found:
            return joined(ledger, opened, found)
        found = left
    return solved
