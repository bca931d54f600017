"""Widths asked for, laid over a network's own."""

import operator
from collections.abc import Mapping

from prune_jax.nearest import unknown


def resolve(
    widths: Mapping[str, int] | None,
    defaults: Mapping[str, int],
    tied: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """The width of every layer that has one of its own: `widths` where given, else `defaults`.

    Keys are layer paths ('stem', 'blocks/3/conv1'), the names that coupling analysis gives the
    groups. `tied` maps layers whose width follows from others to the sentence that says so.
    Raises ValueError for tied layers, for names that are neither and for widths below 1.
    """
    resolved = dict(defaults)
    for name, width in (widths or {}).items():
        if name in (tied or {}):
            raise ValueError(f"widths: {name!r} has no width of its own; {(tied or {})[name]}")
        if name not in defaults:
            raise ValueError(unknown("layer in widths:", name, defaults))
        resolved[name] = _positive(name, width)
    return resolved


def _positive(name: str, width: int) -> int:
    try:
        number = operator.index(width)
    except TypeError:
        raise ValueError(f"widths: {name!r} must be an integer, got {width!r}") from None
    if isinstance(width, bool) or number < 1:
        raise ValueError(f"widths: {name!r} must be an integer of at least 1, got {width!r}")
    return number
