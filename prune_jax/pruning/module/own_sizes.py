"""Numbers in the attributes of a user's own classes, read as sizes of the small network."""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flax import nnx

from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.module.remake import Cut

READINGS = 32  # how many readings are tried. Each but the right one ends at the first wrong shape, as a rule
Options = Mapping[int, Sequence[int]]  # dense size -> what it may be now, the likeliest first


# Attributes that state a number of channels are rewritten though the call may not read them. Others are only where the
# call needs it: a longest length that equals a width shows in no call that is shorter.
STATES_CHANNELS = re.compile(
    r"feature|heads?|dim|width|channel|hidden|group|model|embed|units|filters|planes|inner|d_ff|mlp"
)
STATES_OTHERS = re.compile(r"num_embeddings|vocab|kernel|patch|window|image|len|layers|classes|positions")


class Place(NamedTuple):
    """A number in an attribute of a class: the same number in two attributes may stand for two things.

    Of a dataclass that an attribute holds (settings, shared by many modules), owner and attribute are its own.
    """

    owner: type
    attribute: str
    number: int


def own_sizes(dense: nnx.Module, cut: Cut) -> Iterator[dict[Any, dict[str, Any]]]:
    """Module path -> attributes at the small size, the likeliest reading first.

    A 4 may be four heads, of which two stay, or a head's four numbers, which all stay. Readings differ in what the
    number in each attribute stands for. All objects of a class share it. The last leaves all as they are.
    """
    mine = {path: module for path, module in nnx.iter_modules(dense) if _is_own(module)}
    options = {path: _options(cut, "/".join(map(str, path))) for path in mine}
    most: dict[Place, int] = {}
    for path, module in mine.items():
        for place in _places(module, _public(module)):
            most[place] = max(most.get(place, 1), len(_choices(options[path], place)))
    unsure = [place for place, count in most.items() if count > 1]
    for reading in itertools.islice(_by_sum([most[place] for place in unsure]), READINGS):
        picks = dict(zip(unsure, reading, strict=True))
        found = {path: _read_so(module, options[path], picks) for path, module in mine.items()}
        if any(found.values()):
            yield found
    yield {}


def _by_sum(counts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All tuples of indices below the counts, those with small sums first."""
    for total in range(sum(counts) - len(counts) + 1):
        yield from _with_sum(counts, total)


def _with_sum(counts: Sequence[int], total: int) -> Iterator[tuple[int, ...]]:
    if not counts:
        if total == 0:
            yield ()
        return
    for first in range(min(counts[0] - 1, total) + 1):
        for rest in _with_sum(counts[1:], total - first):
            yield (first, *rest)


def _is_own(module: Any) -> bool:
    """A class of the user's, or a layer without arrays to read its sizes off."""
    return not type(module).__module__.startswith("flax.nnx") or not nnx.to_flat_state(nnx.state(module))


def _public(module: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if not name.startswith("_")}


def _places(owner: Any, values: Mapping[str, Any]) -> Iterator[Place]:
    for name, value in values.items():
        if _is_plain(value):
            yield from _places(value, _fields(value))
        for number in _numbers(value):
            yield Place(type(owner), name, number)


def _choices(options: Options, place: Place) -> Sequence[int]:
    """What the number may be now, the likeliest first."""
    found = options.get(place.number, (place.number,))
    name = place.attribute
    if STATES_CHANNELS.search(name) and not STATES_OTHERS.search(name):
        return found
    return sorted(found, key=lambda new: new != place.number)


def _numbers(value: Any) -> Iterator[int]:
    if _is_size(value):
        yield value
    elif isinstance(value, tuple):
        yield from filter(_is_size, value)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 1


def _is_plain(value: Any) -> bool:
    """A dataclass that holds settings."""
    return dataclasses.is_dataclass(value) and not isinstance(value, (type, nnx.Module, nnx.Variable))


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}


def _read_so(module: Any, options: Options, picks: Mapping[Place, int]) -> dict[str, Any]:
    return _changed(module, _public(module), options, picks)


def _changed(
    owner: Any, values: Mapping[str, Any], options: Options, picks: Mapping[Place, int]
) -> dict[str, Any]:
    """The attributes that hold another size now."""

    def now(name: str, number: Any) -> Any:
        place = Place(type(owner), name, number)
        found = _choices(options, place)
        return found[min(picks.get(place, 0), len(found) - 1)]

    out: dict[str, Any] = {}
    for name, value in values.items():
        if _is_size(value):
            new: Any = now(name, value)
        elif isinstance(value, tuple) and any(map(_is_size, value)):
            new = tuple(now(name, v) if _is_size(v) else v for v in value)
        elif _is_plain(value):
            fields = _changed(value, _fields(value), options, picks)
            new = dataclasses.replace(value, **fields) if fields else value
        else:
            continue
        if new is not value and new != value:
            out[name] = new
    return out


def _options(cut: Cut, path: str) -> dict[int, list[int]]:
    """What each dense size may be now: by the leaves below the path, by any array of the network, or as it was."""
    below = [(old, new) for at, old, new in _leaf_moves(cut) if not path or at.startswith(f"{path}/")]
    out: dict[int, list[int]] = {}
    for old, new in [pair for pair in below if pair[0] != pair[1]]:
        _add(out, old, new)
    for old, new in [pair for pair in below if pair[0] == pair[1]]:
        _add(out, old, new)
    for old, new in sorted(cut.moves):
        _add(out, old, new)
    for old in out:
        _add(out, old, old)
    return {old: new for old, new in out.items() if new != [old]}


def _add(table: dict[int, list[int]], old: int, new: int) -> None:
    found = table.setdefault(old, [])
    if new not in found:
        found.append(new)


def _leaf_moves(cut: Cut) -> list[tuple[str, int, int]]:
    """(leaf path, size before, size after) of every leaf axis, and of every group as seen from its leaves."""
    before, after = dict(leaf_paths(cut.dense)), dict(leaf_paths(cut.small))
    axes = [
        (path, old, new)
        for path in before
        for old, new in zip(before[path].shape, after[path].shape, strict=True)
    ]
    groups = [
        (member.path, group.size, len(cut.keep.get(group.name, range(group.size))))
        for group in cut.groups
        for member in group.members
    ]
    return axes + groups
