"""JSON data -> frozen dataclasses, checked against their annotations. Every error names the place."""

import math
import types
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from prune_jax.nearest import unknown

_hints = cache(get_type_hints)


def decode(kind: Any, data: Any, place: str) -> Any:
    """Build ``kind`` (a dataclass, ``tuple[X, ...]``, ``dict``, a scalar or an optional of these).

    Raises ValueError for a value of another type, an unknown key (with the nearest known one) or a
    missing one that has no default. ``place`` is the path from the top, such as 'run.json: stages[1].epochs'.
    Keys that the dataclass calls ``RETIRED`` are passed over.
    """
    if get_origin(kind) in (Union, types.UnionType):
        return None if data is None else decode(get_args(kind)[0], data, place)
    if is_dataclass(kind):
        return _decode_dataclass(kind, data, place)
    if get_origin(kind) is tuple:
        _expect(isinstance(data, list | tuple), place, "a list", data)
        return tuple(decode(get_args(kind)[0], item, f"{place}[{i}]") for i, item in enumerate(data))
    if kind is dict or get_origin(kind) is dict:
        _expect(isinstance(data, dict), place, "an object", data)
        return data
    return data if kind is Any else _decode_scalar(kind, data, place)


def _decode_dataclass(kind: Any, data: Any, place: str) -> Any:
    _expect(isinstance(data, dict), place, "an object", data)
    hints, known = _hints(kind), {field.name: field for field in fields(kind)}
    data = {key: value for key, value in data.items() if key not in getattr(kind, "RETIRED", ())}
    for key in data:
        if key not in known:
            raise ValueError(f"{place}: {unknown('key', key, known)}")
    for name, field in known.items():
        if name not in data and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{place}: the key {name!r} is missing")
    values = {key: decode(hints[key], value, f"{place}.{key}") for key, value in data.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _decode_scalar(kind: Any, data: Any, place: str) -> Any:
    if kind is float:
        number = isinstance(data, int | float) and not isinstance(data, bool)
        _expect(number and math.isfinite(data), place, "a finite number", data)
        return float(data)
    if kind is int:
        _expect(isinstance(data, int) and not isinstance(data, bool), place, "a whole number", data)
    else:
        _expect(isinstance(data, kind), place, {str: "a string", bool: "true or false"}[kind], data)
    return data


def _expect(condition: bool, place: str, wanted: str, got: Any) -> None:
    if not condition:
        raise ValueError(f"{place} must be {wanted}, got {got!r}")
