"""From solved labels to groups: which channels are of one kind, who makes them, what to call them."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array

from prune_jax.pruning.jaxpr.classes import Classes
from prune_jax.pruning.jaxpr.labels import Labels, Ledger

WINDOW = "window of the kernel"
NOT_MADE = "no weight of the network makes these channels"
UNUSED = "this leaf is not used by the network"


class Slice(NamedTuple):
    """One axis of one leaf, and which channel each of its positions belongs to.

    Attributes:
      path: the leaf's key path, joined by "/".
      axis: the axis's number.
      index: int array (length of the axis,). ``index[i]`` is the channel of position ``i``, or -1 where it is none of
        this group's.

    Example:
      >>> Slice("head/kernel", 0, np.array([0, 0, 1, 1])).index.tolist()  # two channels with two positions each
      [0, 0, 1, 1]
    """

    path: str
    axis: int
    index: np.ndarray  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here


class Gain(NamedTuple):
    """A leaf that multiplies channels one by one, such as a norm's scale, and the leaf that is then added.

    ``shift`` is None where nothing is added, and empty where what is added is no leaf by itself.
    """

    scale: str
    shift: str | None


class Group(NamedTuple):
    """Channels of one kind. Each lives or dies with all its positions in ``members``.

    Attributes:
      name: what a keep calls the group, most often the layer that makes it.
      size: the number of channels.
      members: every leaf axis that holds these channels.
      producer: the member that makes the channels: the output axis of the first weight to do so.
      frozen: why the group can't be pruned. None: it can.
      maskable: whether masks can stand for the cut. False where a reduction over the channels would count masked ones.
        Then surgery alone defines the pruned network.
      unmaskable: which reduction that is. None where ``maskable`` is True.
      constants: numbers in the network that equal a power of ``size``, while nothing shows that they are meant as one.
        They stay as they are when the group is cut.
      gains: leaves that multiply the channels one by one, as a norm's scale does, in the order of the program.

    Example:
      >>> made = Slice("kernel", 1, np.arange(8))
      >>> group = Group("layer", 8, (made,), made, frozen=None, maskable=True)
      >>> group.size, group.producer.path
      (8, 'kernel')
    """

    name: str
    size: int
    members: tuple[Slice, ...]
    producer: Slice
    frozen: str | None
    maskable: bool
    unmaskable: str | None = None
    constants: tuple[float, ...] = ()
    gains: tuple[Gain, ...] = ()


class Slot(NamedTuple):
    """An axis of a params leaf and its labels."""

    path: str
    axis: int
    labels: Labels
    rank: int
    leaf: int


class _Draft(NamedTuple):
    ids: np.ndarray  # classes, in the order of the producer's positions
    slots: tuple[int, ...]
    producer: int
    made: bool
    order: tuple
    frozen: int
    unmasked: int
    inner: bool  # parts of what other channels of the same positions hold whole


def _positions(slots: list[Slot], solved: Classes) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (class, slot) for every class and leaf axis that it has positions on, sorted."""
    if not slots:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    ids = solved.plain(np.concatenate([slot.labels for slot in slots])).astype(np.int64)
    numbers = np.repeat(np.arange(len(slots)), [len(slot.labels) for slot in slots])
    if ids.ndim > 1:  # a product's position is one of both its factors
        numbers = np.repeat(numbers, 2)[ids.reshape(-1) >= 0]
        ids = ids[ids >= 0]
    # A sparse table of occurrences sorts in linear time.
    table = coo_array(
        (np.ones(len(ids), bool), (ids, numbers)), shape=(len(solved.frozen), len(slots))
    ).tocsr()
    table.sum_duplicates()
    return np.repeat(np.arange(table.shape[0]), np.diff(table.indptr)), table.indices.astype(np.int64)


def _signatures(starts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """128 bits per class that stand for its set of slots: sums of one random number per slot."""
    table = np.random.default_rng(0).integers(0, 2**63, (numbers.max(initial=0) + 1, 2)).astype(np.uint64)
    return np.add.reduceat(table[numbers], starts)


def _kinds(slots: list[Slot], solved: Classes) -> list[tuple[np.ndarray, np.ndarray]]:
    """(classes, slots) of one kind: in the same leaf axes, equally frozen, equally maskable."""
    ids, numbers = _positions(slots, solved)
    if not len(ids):
        return []
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    ends = np.r_[starts[1:], len(ids)]
    own = ids[starts]
    state = (solved.frozen[own] >= 0) * 2 + (solved.unmasked[own] >= 0)
    if solved.factors is not None:  # heads and the parts inside of them
        state = state + 4 * np.isin(own, solved.factors[:, 1])
    marks = np.column_stack([_signatures(starts, numbers), state.astype(np.uint64)])
    order = np.lexsort(marks.T)  # stable, and np.unique(axis=0) is several times slower
    new = np.flatnonzero((marks[order][1:] != marks[order][:-1]).any(axis=1)) + 1
    firsts = order[np.r_[0, new]]
    return [
        (ids, numbers[starts[k] : ends[k]]) for ids, k in zip(np.split(own[order], new), firsts, strict=True)
    ]


def _first_uses(ledger: Ledger, solved: Classes, *, made: bool) -> np.ndarray:
    first = np.full(len(solved.frozen), np.iinfo(np.int64).max)
    uses = [(order, use.labels) for order, use in enumerate(ledger.uses) if use.made == made]
    if not uses:
        return first
    labels = np.concatenate([each for _, each in uses])
    orders = np.repeat([order for order, _ in uses], [len(each) for _, each in uses])[labels >= 0]
    ids = solved.plain(labels[labels >= 0])
    for column in ids.reshape(len(orders), -1).T:
        np.minimum.at(first, column[column >= 0], orders[column >= 0])
    return first


def _maker(ledger: Ledger, slots: list[Slot], numbers: np.ndarray, use: int) -> int:
    """The slot whose axis made the channels at a use."""
    labels, leaves, _ = ledger.uses[use]
    candidates = [n for n in numbers if slots[n].leaf in leaves] or list(numbers)
    direct = [n for n in candidates if np.isin(slots[n].labels, labels).any()]
    return max(direct or candidates, key=lambda n: (slots[n].rank, slots[n].axis))


def _ordered(ids: np.ndarray, slot: Slot, solved: Classes) -> np.ndarray:
    """Classes in the order in which they first appear along the producer's axis."""
    along = solved.within(slot.labels, ids)
    along = along[along >= 0]
    _, first = np.unique(along, return_index=True)
    return along[np.sort(first)]


def _drafts(ledger: Ledger, slots: list[Slot], solved: Classes) -> list[_Draft]:
    made_at, read_at = (_first_uses(ledger, solved, made=made) for made in (True, False))
    never = np.iinfo(np.int64).max
    drafts = []
    for ids, numbers in _kinds(slots, solved):
        made, read = int(made_at[ids].min()), int(read_at[ids].min())
        if made < never:
            producer = _maker(ledger, slots, numbers, made)
        else:
            producer = _maker(ledger, slots, numbers, read) if read < never else int(numbers[0])
        frozen, unmasked = solved.frozen[ids], solved.unmasked[ids]
        lone_window = len(numbers) == 1 and frozen[0] >= 0 and ledger.reasons[frozen[0]].words == WINDOW
        if lone_window:
            continue
        worst_frozen, worst_unmasked = int(frozen.min()), int(unmasked.min())
        ordered = _ordered(ids, slots[producer], solved)
        first = int(np.argmax(solved.within(slots[producer].labels, ordered[:1]) >= 0))
        inner = solved.factors is not None and bool(np.isin(ordered, solved.factors[:, 1]).all())
        order = (min(made, read), made == never, producer, first, inner)
        where = (ordered, tuple(numbers), producer)
        drafts.append(_Draft(*where, made < never, order, worst_frozen, worst_unmasked, inner))
    return sorted(drafts, key=lambda draft: draft.order)


def layer_name(path: str) -> str:
    """The layer's name: the leaf path without its last part and without a leading 'params'."""
    parts = path.split("/")
    if parts[-1] == "value" and len(parts) > 1:  # boxed variables of NNX and Linen
        parts = parts[:-1]
    parts = parts[1:] if parts[0] == "params" and len(parts) > 1 else parts
    return "/".join(parts[:-1] or parts)


def _names(drafts: list[_Draft], slots: list[Slot], solved: Classes) -> list[str]:
    """Layer names where they are unique. Leaf and axis, then positions, where they aren't."""
    short = [layer_name(slots[d.producer].path) for d in drafts]
    made = [name for name, d in zip(short, drafts, strict=True) if d.made and not d.inner]
    names = []
    for name, draft in zip(short, drafts, strict=True):
        alike = [d for n, d in zip(short, drafts, strict=True) if d.made and not d.inner and n == name]
        slot = slots[draft.producer]
        if draft.inner:
            names.append(f"{name}:inner")
            continue
        if draft.made and made.count(name) == 1:
            names.append(name)
            continue
        if not draft.made or len({d.producer for d in alike}) > 1:
            name = f"{slot.path.removeprefix('params/')}:{slot.axis}"
        names.append(name)
    return _numbered(names, drafts, slots, solved)


def _numbered(names: list[str], drafts: list[_Draft], slots: list[Slot], solved: Classes) -> list[str]:
    """Groups that share the producing axis are told apart by their positions on it."""
    out: list[str] = []
    for name, draft in zip(names, drafts, strict=True):
        if names.count(name) > 1:
            slot = slots[draft.producer]
            mine = np.flatnonzero(solved.within(slot.labels, draft.ids) >= 0)
            name = f"{name}[{mine[0]}:{mine[-1] + 1}]"
        while name in out:
            name += "'"
        out.append(name)
    return out


def _slice(slot: Slot, channel: np.ndarray, solved: Classes) -> Slice:
    index = channel[solved.plain(np.maximum(slot.labels, 0))]
    index = index if index.ndim == 1 else index.max(-1)  # of two factors at most one is of this group
    return Slice(slot.path, slot.axis, np.where(slot.labels >= 0, index, -1))


def _group(name: str, draft: _Draft, slots: list[Slot], solved: Classes, ledger: Ledger) -> Group:
    channel = np.full(len(solved.frozen) + 1, -1)  # and one for no class
    channel[draft.ids] = np.arange(len(draft.ids))
    members = {n: _slice(slots[n], channel, solved) for n in draft.slots}
    frozen = str(ledger.reasons[draft.frozen]) if draft.frozen >= 0 else None
    if all(slots[n].leaf in ledger.unused for n in draft.slots):
        frozen = UNUSED
    elif frozen is None and not draft.made:
        frozen = NOT_MADE
    why = str(ledger.reasons[draft.unmasked]) if draft.unmasked >= 0 else None
    producer = members[draft.producer]
    stay = () if frozen else _constants(ledger, solved, draft.ids)
    return Group(name, len(draft.ids), tuple(members.values()), producer, frozen, why is None, why, stay)


def _constants(ledger: Ledger, solved: Classes, ids: np.ndarray) -> tuple[float, ...]:
    mine = [c for labels, c in ledger.stay if np.isin(solved.of[labels[labels >= 0]], ids).any()]
    return tuple(dict.fromkeys(mine))


def build(ledger: Ledger, slots: list[Slot], solved: Classes) -> tuple[Group, ...]:
    """All groups, in the order in which the network first makes (or reads) them."""
    drafts = _drafts(ledger, slots, solved)
    names = _names(drafts, slots, solved)
    pairs = zip(names, drafts, strict=True)
    return tuple(_group(name, draft, slots, solved, ledger) for name, draft in pairs)
