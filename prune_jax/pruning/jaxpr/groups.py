"""From solved labels to groups: which channels are of one kind, who makes them, what to call them."""

from typing import NamedTuple

import numpy as np

from prune_jax.pruning.jaxpr.classes import Classes
from prune_jax.pruning.jaxpr.kinds import Kinds, kinds
from prune_jax.pruning.jaxpr.labels import Labels, Ledger

WINDOW = "window of the kernel"
NOT_MADE = "no weight of the network makes these channels"
NEVER = np.iinfo(np.int64).max
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
    kind: int
    slots: list[int]
    producer: int
    made: bool
    order: tuple
    frozen: int
    unmasked: int
    inner: bool  # parts of what other channels of the same positions hold whole


def _first_uses(ledger: Ledger, solved: Classes, *, made: bool) -> np.ndarray:
    """The number of the first use that makes (or reads) each class."""
    first = np.full(len(solved.frozen), NEVER)
    axes: dict[int, tuple[int, Labels]] = {}
    for order, use in enumerate(ledger.uses):
        if use.made == made:
            axes.setdefault(id(use.labels), (order, use.labels))
    for order, labels in reversed(axes.values()):  # the first use writes last
        ids = solved.plain(labels[labels >= 0])
        first[ids[ids >= 0]] = order
    return first


def _maker(ledger: Ledger, slots: list[Slot], numbers: list[int], use: int) -> int:
    """The slot whose axis made the channels at a use."""
    labels, leaves, _ = ledger.uses[use]

    def meets(slot: Slot) -> bool:  # a slot's labels are a range
        return bool(((labels >= slot.labels[0]) & (labels <= slot.labels[-1])).any())

    candidates = [n for n in numbers if slots[n].leaf in leaves] or numbers
    direct = [n for n in candidates if meets(slots[n])]
    return max(direct or candidates, key=lambda n: (slots[n].rank, slots[n].axis))


def _ordered(along: np.ndarray) -> np.ndarray:
    """Classes in the order in which they first appear along the producer's axis."""
    along = along[along >= 0]
    _, first = np.unique(along, return_index=True)
    return along[np.sort(first)]


def _drafts(ledger: Ledger, slots: list[Slot], solved: Classes, found: Kinds) -> list[_Draft]:
    first_uses = [_first_uses(ledger, solved, made=made) for made in (True, False)]
    inner = solved.is_inner()
    drafts = []
    for kind, ids in enumerate(found.ids):
        made, read = (int(first[ids].min()) for first in first_uses)
        numbers = found.axes(kind)
        use = made if made < NEVER else read
        producer = _maker(ledger, slots, numbers, use) if use < NEVER else numbers[0]
        frozen, unmasked = solved.frozen[ids], solved.unmasked[ids]
        if len(numbers) == 1 and frozen[0] >= 0 and ledger.reasons[frozen[0]].words == WINDOW:
            continue
        along = found.along(found.leaf_axes.row[producer], kind)
        first, is_inner = int(np.argmax(along >= 0)), bool(inner[ids].all())
        order = (min(made, read), made == NEVER, producer, first, is_inner)
        where = (_ordered(along), kind, numbers, producer)
        worst = (int(frozen.min()), int(unmasked.min()))
        drafts.append(_Draft(*where, made < NEVER, order, *worst, is_inner))
    return sorted(drafts, key=lambda draft: draft.order)


def layer_name(path: str) -> str:
    """The layer's name: the leaf path without its last part and without a leading 'params'."""
    parts = path.split("/")
    if parts[-1] == "value" and len(parts) > 1:  # boxed variables of NNX and Linen
        parts = parts[:-1]
    parts = parts[1:] if parts[0] == "params" and len(parts) > 1 else parts
    return "/".join(parts[:-1] or parts)


def _names(drafts: list[_Draft], slots: list[Slot], found: Kinds) -> list[str]:
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
    return _numbered(names, drafts, found)


def _numbered(names: list[str], drafts: list[_Draft], found: Kinds) -> list[str]:
    """Groups that share the producing axis are told apart by their positions on it."""
    out: list[str] = []
    for name, draft in zip(names, drafts, strict=True):
        if names.count(name) > 1:
            along = found.along(found.leaf_axes.row[draft.producer], draft.kind)
            mine = np.flatnonzero(along >= 0)
            name = f"{name}[{mine[0]}:{mine[-1] + 1}]"
        while name in out:
            name += "'"
        out.append(name)
    return out


def _channels(drafts: list[_Draft], found: Kinds) -> np.ndarray:
    """The channel of each class in its own group. -1 stands for none, at the end too."""
    channel = np.full(len(found.of), -1)
    for draft in drafts:
        channel[draft.ids] = np.arange(len(draft.ids))
    return channel


def _members(draft: _Draft, slots: list[Slot], found: Kinds, channel: np.ndarray) -> dict[int, Slice]:
    """The slices of a draft by their slots. Axes that hold the same classes share one read-only index."""
    index = {}
    for row in found.rows[draft.kind]:
        index[row] = channel[found.along(row, draft.kind)]
        index[row].setflags(write=False)
    rows = found.leaf_axes.row
    return {n: Slice(slots[n].path, slots[n].axis, index[rows[n]]) for n in draft.slots}


def _group(name: str, draft: _Draft, members: dict[int, Slice], slots: list[Slot], ledger: Ledger) -> Group:
    frozen = str(ledger.reasons[draft.frozen]) if draft.frozen >= 0 else None
    if all(slots[n].leaf in ledger.unused for n in draft.slots):
        frozen = UNUSED
    elif frozen is None and not draft.made:
        frozen = NOT_MADE
    why = str(ledger.reasons[draft.unmasked]) if draft.unmasked >= 0 else None
    return Group(
        name, len(draft.ids), tuple(members.values()), members[draft.producer], frozen, why is None, why
    )


def _constants(ledger: Ledger, solved: Classes, found: Kinds) -> dict[int, tuple[float, ...]]:
    """For each kind the constants that stay as they are though they equal a power of its size."""
    of_kind: dict[int, dict[float, None]] = {}
    for labels, constant in ledger.stay:
        for kind in np.unique(found.of[solved.of[labels[labels >= 0]]]).tolist():
            of_kind.setdefault(kind, {})[constant] = None
    return {kind: tuple(constants) for kind, constants in of_kind.items()}


def build(ledger: Ledger, slots: list[Slot], solved: Classes) -> tuple[Group, ...]:
    """All groups, in the order in which the network first makes (or reads) them."""
    found = kinds([slot.labels for slot in slots], solved)
    drafts = _drafts(ledger, slots, solved, found)
    channel, stay = _channels(drafts, found), _constants(ledger, solved, found)
    groups = []
    for name, draft in zip(_names(drafts, slots, found), drafts, strict=True):
        group = _group(name, draft, _members(draft, slots, found, channel), slots, ledger)
        groups.append(group if group.frozen else group._replace(constants=stay.get(draft.kind, ())))
    return tuple(groups)
