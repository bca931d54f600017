"""Labels: one integer per index of an axis, and the ledger of what ties them together.

A label >= 0 names one channel. Equal labels are one channel from the start, and the ledger's
edges say which others turn out to be the same. A label < 0 stands for an index that may never
be removed. ``-1 - label`` is the number of the reason why. Reasons are kept unrendered, since
most are never shown.
"""

from typing import Any, NamedTuple

import numpy as np
from jax.extend import source_info_util

Labels = np.ndarray


class Reason(NamedTuple):
    """Why a channel is fixed: words, and the equation they speak about with those that called it."""

    words: str
    eqns: tuple[Any, ...] = ()

    def __str__(self) -> str:
        if not self.eqns:
            return self.words
        # A library function traced before has no frame of the user's. Its caller has.
        places = (source_info_util.summarize(eqn.source_info) for eqn in self.eqns)
        where = next((place for place in places if place), "unknown source")
        return f"{self.eqns[0].primitive.name}: {self.words} (at {where})"


class Split(NamedTuple):
    """One axis that is a product of several labelled axes: ``parent`` has their product shape."""

    parent: Labels
    children: tuple[Labels, ...]
    reason: int
    assumed: int | None = None  # the child along which fills were followed, where that matters


class Use(NamedTuple):
    """A weight met an activation: ``labels`` is one of the weight's axes, made (or read) here."""

    labels: Labels
    leaves: frozenset[int]
    made: bool


def uniform(label: int, size: int) -> Labels:
    """The same label at every index, stored once."""
    return np.ndarray((size,), np.int64, np.array([label]), 0, (0,))


def is_fixed(labels: Labels) -> bool:
    """Whether every index is fixed for one reason (stored as one number, stride 0)."""
    return labels.size == 0 or (labels.strides == (0,) and labels[0] < 0)


class Ledger:
    """What one walk over a jaxpr has learnt. Filled by the rules, read by ``solve``."""

    def __init__(self) -> None:
        self.count = 0
        self.edges: list[tuple[Labels, Labels]] = []
        self.reasons: list[Reason] = []
        self.frozen: list[tuple[Labels, int]] = []
        self.unmasked: list[tuple[Labels, int]] = []
        self.mixed: list[tuple[Labels, int]] = []
        self.splits: list[Split] = []
        self.uses: list[Use] = []
        self.eqn: Any = None
        self.callers: tuple[Any, ...] = ()  # equations whose bodies are being walked, innermost first
        self.doubts: list[Any] = []
        # Constants that equal a size's power, and stay as they are.
        self.stay: list[tuple[Labels, float]] = []
        # Labels below are of params leaves and free inputs. Without a number all may be.
        self.owned: int | None = None
        self.unused: frozenset[int] = frozenset()  # params leaves that the network never reads
        self.verdicts: dict[int, Any] = {}  # number of a doubt -> the size that it is
        # An axis and the parts it was split to or merged from, by identity of the label arrays.
        self.parts: dict[tuple[int, tuple[int, ...]], tuple[Labels, ...]] = {}
        self.wholes: dict[tuple[int, ...], tuple[Labels, int | None]] = {}
        self.known: Any = None  # what was solved last, see ``classes``
        # Where each range of fresh labels begins, and the number of a range by the identity of its labels.
        self.starts: list[int] = []
        self.ranges: dict[int, int] = {}
        # Edges between equal parts of equal products, and how large the ledger was, see ``solve``.
        self.closed: tuple[tuple[int, int, int], list[tuple[Labels, Labels]]] | None = None
        # Splits that were decided already, see ``solve``.
        self.choices: dict[bytes, list[tuple[int, int]]] = {}
        self._alive: list[Labels] = []
        self._seen: set[tuple[int, int]] = set()

    def fresh(self, size: int) -> Labels:
        """New labels, tied to nothing yet."""
        labels = np.arange(self.count, self.count + size)
        self.ranges[id(labels)] = len(self.starts)
        self.starts.append(self.count)
        self._alive.append(labels)
        self.count += size
        return labels

    def reason(self, words: str) -> int:
        """Number of a new reason that speaks of the equation being read."""
        self.reasons.append(Reason(words, () if self.eqn is None else (self.eqn, *self.callers)))
        return len(self.reasons) - 1

    def fixed(self, size: int, words: str) -> Labels:
        """Labels of an axis that can't be cut."""
        return uniform(-1 - self.reason(words), size)

    def freeze(self, labels: Labels, words: str) -> None:
        """The channels of ``labels`` may not be pruned."""
        if not is_fixed(labels) and (labels >= 0).any():
            self.frozen.append((labels, self.reason(words)))

    def unmask(self, labels: Labels, words: str) -> None:
        """The channels of ``labels`` may be cut, but no mask can stand for the cut."""
        if not is_fixed(labels):
            self.unmasked.append((labels, self.reason(words)))

    def mix(self, labels: Labels) -> None:
        """Activations are summed over ``labels``, so these indices work together."""
        if not is_fixed(labels):
            self.mixed.append((labels, 0))

    def couple(self, a: Labels, b: Labels) -> Labels:
        """The two axes are cut together, index by index. Returns labels that stand for both."""
        if a is b or (is_fixed(a) and is_fixed(b)):
            return a
        # The pair of ids is a safe key: edges keep both arrays alive.
        if (id(a), id(b)) not in self._seen:
            self._seen.add((id(a), id(b)))
            self.edges.append((a, b))
        return b if is_fixed(a) else a

    def split(self, parent: Labels, children: tuple[Labels, ...]) -> int:
        """``parent`` is the product of ``children``; which one carries the channels is open."""
        words = "a reshape joins or splits this axis, and the channels run along another part of it"
        self.splits.append(Split(parent, children, self.reason(words)))
        return len(self.splits) - 1

    def assume(self, split: int | None) -> None:
        """Fills were followed as if the first part of a split carried its channels."""
        if split is not None:
            self.splits[split] = self.splits[split]._replace(assumed=0)

    def remember(self, whole: Labels, parts: tuple[Labels, ...], split: int | None) -> None:
        """``whole`` is the product of ``parts``: whoever meets either again gets the other."""
        self.parts[id(whole), tuple(len(part) for part in parts)] = parts
        self.wholes[tuple(map(id, parts))] = whole, split
        self._alive.extend((whole, *parts))  # ids are keys, so the arrays must live

    def doubt(self, doubt: Any) -> int:
        """The equation being read has a constant that may stand for a size. Returns its number."""
        self.doubts.append(doubt)
        return len(self.doubts) - 1

    def confirm(self, number: int, axis: Labels) -> None:
        """Activations meet over ``axis``: a constant that may be its size is used as one."""
        doubt = self.doubts[number]
        hits = {k for k, c in enumerate(doubt.candidates) if any(np.array_equal(axis, a) for a in c.axes)}
        self.doubts[number] = doubt._replace(idioms=doubt.idioms | hits)

    def confirm_step(self, number: int) -> None:
        """A sum was divided by all of its length in several steps, of which the doubted constant is one."""
        doubt = self.doubts[number]
        if doubt.candidates[0].power is not None:
            self.doubts[number] = doubt._replace(idioms=doubt.idioms | {0})

    def use(self, labels: Labels, leaves: frozenset[int], *, made: bool) -> None:
        """A weight computed from ``leaves`` makes (or reads) the channels of ``labels``."""
        if leaves:
            self.uses.append(Use(labels, leaves, made))
