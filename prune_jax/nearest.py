"""One wording for a name that isn't among those allowed: the name, the nearest allowed one, what is allowed."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

SHOWN = 24  # names. A deep network has a width for each of its blocks, and a message stays readable
ALIKE = 0.5  # difflib's measure, 1 for equal texts, above which a name is worth asking about


def closest(got: object, allowed: Iterable[object], most: int = 1) -> list[str]:
    """At most ``most`` of the names in ``allowed`` that ``got`` is like, the nearest first."""
    return get_close_matches(str(got), [str(name) for name in allowed], n=most, cutoff=ALIKE)


def hint(got: object, allowed: Iterable[object], most: int = 1) -> str:
    """``; did you mean 'x'?`` with at most ``most`` of the names in ``allowed`` that ``got`` is like, or ''.

    Example: ``hint("prunne", ("prune", "scratch"))`` is ``"; did you mean 'prune'?"``.
    """
    near = closest(got, allowed, most)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def unknown(kind: str, got: object, allowed: Iterable[object], most: int = 1) -> str:
    """The text of an error: ``unknown KIND 'got'``, the hint, and the first ``SHOWN`` names in ``allowed``."""
    names = [str(name) for name in allowed]
    rest = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
    end = hint(got, names, most) or "."
    return f"unknown {kind} {got!r}{end} Allowed: {', '.join(names[:SHOWN]) or 'none'}{rest}"


def one_of(key: str, value: str, allowed: Sequence[str]) -> str:
    """``value``, or ValueError where it isn't one of ``allowed``: ``KEY is 'value'; allowed: a, b`` and the hint."""
    if value not in allowed:
        shown = ", ".join(name or "''" for name in allowed)
        raise ValueError(f"{key} is {value!r}; allowed: {shown}{hint(value, allowed)}")
    return value
