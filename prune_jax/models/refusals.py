"""One wording for every name that a network doesn't know."""

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 24  # a deep network has a width for each of its blocks; a message stays readable


def unknown(kind: str, got: object, allowed: Iterable[str]) -> str:
    """Sentence that names the unknown `got`, the nearest allowed name and what is allowed."""
    allowed = list(allowed)
    near = get_close_matches(str(got), allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    rest = f", ... ({len(allowed)} in all)" if len(allowed) > _SHOWN else ""
    return f"unknown {kind} {got!r}{hint} Allowed: {', '.join(allowed[:_SHOWN]) or 'none'}{rest}"
