"""The attributes of NNX modules that state sizes, rewritten to those of the small arrays."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from flax import nnx

from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.keep import cuts
from prune_jax.pruning.module.layer_sizes import stated
from prune_jax.pruning.module.remake import Cut

Sizes = Mapping[str, Any]
READINGS = 12  # how many readings of a class's numbers are tried


def rewritings(dense: nnx.Module, cut: Cut, small: Callable[[], nnx.Module]) -> Iterator[nnx.Module]:
    """Small modules, each with other attributes rewritten; the first that computes the right thing is the one.

    Attributes of Flax's own layers are read off their arrays. A class of the user's own may hold a size under any
    name, so every number is tried as the sizes that it can stand for.

    Args:
      dense: the module with its dense arrays (or shapes).
      cut: the decision.
      small: makes the module with its small arrays, and the dense module's attributes.
    """
    layers = _layer_sizes(dense, small(), cut)
    for choice in _own_sizes(dense, cut):
        module = small()
        for path, found in nnx.iter_modules(module):
            for name, value in {**layers.get(path, {}), **choice.get(path, {})}.items():
                setattr(found, name, value)
        yield module


def _layer_sizes(dense: nnx.Module, small: nnx.Module, cut: Cut) -> dict[Any, Sizes]:
    """What the attributes of Flax's layers are at the small size; those that a layer states otherwise are left."""
    alive = cuts(cut.groups, cut.keep)
    new = dict(nnx.iter_modules(small))
    out: dict[Any, Sizes] = {}
    for path, module in nnx.iter_modules(dense):
        at = "/".join(map(str, path))

        def stays(leaf: str, axis: int, at: str = at, module: Any = module) -> np.ndarray:
            shape = getattr(module, leaf).shape
            name = f"{at}/{leaf}" if at else leaf
            return alive.get(name, {}).get(axis % len(shape), np.ones(shape[axis], bool))

        before = stated(module, functools.partial(_all_stay, module))
        after = stated(new[path], stays)
        # A layer stacked along another axis than the first states other sizes than these.
        same = {name for name, value in before.items() if getattr(module, name, None) == value}
        out[path] = {name: value for name, value in after.items() if name in same}
    return out


def _all_stay(module: Any, leaf: str, axis: int) -> np.ndarray:
    return np.ones(getattr(module, leaf).shape[axis], bool)


def _own_sizes(dense: nnx.Module, cut: Cut) -> Iterator[dict[Any, Sizes]]:
    """Module path -> numbers of the user's own classes at the small size, the likeliest reading first.

    A 4 may be four heads, of which two stay, or a kernel's four inputs, which all stay. Readings differ in what each
    such number stands for; the last leaves all of them as they are.
    """
    moves, options = _moves(cut), {}
    mine = {path: module for path, module in nnx.iter_modules(dense) if _is_own(module)}
    for path in mine:
        options[path] = _options(moves, f"{'/'.join(map(str, path))}/" if path else "")
    stated = {v for module in mine.values() for v in _numbers(vars(module).values())}
    open_ones = sorted(old for old in stated if any(len(o.get(old, ())) > 1 for o in options.values()))
    most = {old: max(len(o.get(old, ())) for o in options.values()) for old in open_ones}
    readings = itertools.product(*(range(most[old]) for old in open_ones))
    for reading in itertools.islice(readings, READINGS):
        picks = dict(zip(open_ones, reading, strict=True))
        found = {path: _read_so(module, options[path], picks) for path, module in mine.items()}
        if any(found.values()):
            yield found
    yield {}


def _read_so(module: Any, options: Mapping[int, tuple[int, ...]], picks: Mapping[int, int]) -> Sizes:
    table = {old: new[min(picks.get(old, 0), len(new) - 1)] for old, new in options.items()}
    found = {n: _moved(v, table) for n, v in vars(module).items() if not n.startswith("_")}
    return {n: v for n, v in found.items() if v is not None}


def _is_own(module: Any) -> bool:
    """A class of the user's, or a layer without arrays to read its sizes off."""
    return not type(module).__module__.startswith("flax.nnx") or not nnx.to_flat_state(nnx.state(module))


def _numbers(values: Iterable[Any]) -> Iterator[int]:
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool):
            yield value
        elif isinstance(value, tuple):
            yield from _numbers(value)
        elif _is_plain(value):
            yield from _numbers(getattr(value, field.name) for field in dataclasses.fields(value))


def _is_plain(value: Any) -> bool:
    """A dataclass that holds settings."""
    return dataclasses.is_dataclass(value) and not isinstance(value, (type, nnx.Module, nnx.Variable))


def _moves(cut: Cut) -> list[tuple[str, int, int]]:
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


def _options(moves: list[tuple[str, int, int]], prefix: str) -> dict[int, tuple[int, ...]]:
    """Dense size -> what it may be now, by the leaves below the prefix (by all leaves, where none is)."""
    mine = [move for move in moves if move[0].startswith(prefix)] or moves
    table: dict[int, set[int]] = {}
    for _, old, new in mine:
        table.setdefault(old, set()).add(new)
    return {old: tuple(sorted(new, key=lambda n: (n == old, n))) for old, new in table.items() if old > 1}


def _moved(value: Any, table: Mapping[int, int]) -> Any:
    """The value with its sizes moved; None where it holds none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return table.get(value) if table.get(value) != value else None
    if isinstance(value, tuple) and value and all(isinstance(v, int) for v in value):
        new = tuple(table.get(v, v) for v in value)
        return new if new != value else None
    if _is_plain(value):
        fields = {f.name: _moved(getattr(value, f.name), table) for f in dataclasses.fields(value) if f.init}
        rest = {name: moved for name, moved in fields.items() if moved is not None}
        return dataclasses.replace(value, **rest) if rest else None
    return None
