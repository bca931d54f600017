"""Decide what a suspicious constant means: a size that shrinks with the channels, or a plain number that stays.

There are three kinds of evidence, looked at in this order:

- Where the number was written: ``jax.numpy.mean`` divides by what it reduces, ``jax.nn.gelu`` knows no size.
- A second trace with one channel less. Its constants either follow the size or don't.
- The idiom itself, where the network can't be traced at another size, as Linen checks shapes. A sum is divided by its
  own length, or a product of activations is scaled by the root of theirs.

Without any evidence the constant stays as it is, and the group says so. A masked network keeps it too. Where a constant
follows a size and it is open which one, all sizes that it may be are frozen.
"""

import importlib.util
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from prune_jax.pruning.jaxpr.labels import Labels, Ledger
from prune_jax.pruning.jaxpr.sizes import RELATIVE, Baked, Candidate, Doubt, settled_as

# Sources whose constants are sizes of the axes that they reduce or contract.
REDUCTIONS = (("jax/_src/numpy/reductions.py", None),)
SIZED = (
    *REDUCTIONS,
    ("flax/linen/attention.py", None),
    ("flax/nnx/nn/attention.py", None),
    ("jax/_src/nn/functions.py", "dot_product_attention"),
)
# Sources whose constants are numbers of mathematics.
PURE = (("jax/_src/nn/functions.py", None), ("jax/_src/scipy/special.py", None))


LIBRARIES = tuple(
    str(Path(spec.origin).parent).replace("\\", "/") + "/"
    for spec in map(importlib.util.find_spec, ("jax", "flax"))
    if spec and spec.origin
)


def _frames(eqn: Any) -> list[tuple[str, str]]:
    """(file, function) from the innermost frame to the first outside jax and flax."""
    traceback = eqn.source_info.traceback
    found = []
    for frame in getattr(traceback, "frames", ()):
        path = frame.file_name.replace("\\", "/")
        if not path.startswith(LIBRARIES):
            break
        found.append((path, frame.function_name))
    return found


def _written_in(frames: list[tuple[str, str]], places: tuple) -> bool:
    return any(
        path.endswith(file) and (function is None or function in name)
        for path, name in frames
        for file, function in places
    )


class Verdict(NamedTuple):
    """What a constant turned out to be: a size (``baked``), a plain number (neither), or unproved.

    ``open`` are the axes one of whose sizes it follows. ``stays`` are axes of which nothing says so.
    """

    baked: Baked | None = None
    open: tuple[Labels, ...] = ()
    stays: tuple[Labels, ...] = ()


PLAIN = Verdict()


def _all_axes(candidates: Iterable[Candidate]) -> tuple[Labels, ...]:
    return tuple(axis for candidate in candidates for axis in candidate.axes)


def _by_idiom(doubt: Doubt) -> Verdict:
    if len(doubt.idioms) == 1:
        return Verdict(settled_as(doubt, doubt.candidates[next(iter(doubt.idioms))]))
    return Verdict(stays=_all_axes(doubt.candidates))


def by_source(doubt: Doubt) -> Verdict | None:
    """Verdict from where the constant was written. None if that says nothing."""
    frames = _frames(doubt.eqn)
    if any(candidate.power is None for candidate in doubt.candidates):
        return None  # a size less one: jnp.var(ddof=1) writes it in the same place as sizes
    if _written_in(frames, SIZED):
        if doubt.idioms:
            return _by_idiom(doubt) if len(doubt.idioms) == 1 else None
        return PLAIN if _written_in(frames, REDUCTIONS) else None
    return PLAIN if _written_in(frames, PURE) else None


def without_trace(doubt: Doubt) -> Verdict:
    """Verdict where the network can't be traced at another size: the idiom has to do."""
    return by_source(doubt) or _by_idiom(doubt)


def by_retrace(doubt: Doubt, length: Callable[[Labels], int], after: float) -> Verdict:
    """Verdict from the constant ``after`` a trace in which axes had the given lengths."""

    def ratio(candidate: Candidate) -> float:
        return math.prod(length(axis) / len(axis) for axis in candidate.axes)

    if abs(after - doubt.constant) <= RELATIVE * abs(doubt.constant):
        untried = {k for k, candidate in enumerate(doubt.candidates) if ratio(candidate) == 1}
        if untried >= doubt.idioms and len(doubt.idioms) == 1:
            return _by_idiom(doubt)  # used as a size that this trace didn't change
        # It didn't follow, so it is a number. The group says so where that isn't plain: used as a size, or not cut.
        unproved = [c for k, c in enumerate(doubt.candidates) if k in doubt.idioms | untried]
        return Verdict(stays=_all_axes(unproved))
    fits = []
    for candidate in doubt.candidates:
        expected = doubt.constant * ratio(candidate) ** (candidate.power or 0)
        if candidate.power is not None and abs(after - expected) <= RELATIVE * abs(expected):
            fits.append(candidate)
    return (
        Verdict(settled_as(doubt, fits[0])) if len(fits) == 1 else Verdict(open=_all_axes(doubt.candidates))
    )


def relevant(doubt: Doubt, cuttable: Callable[[Labels], bool]) -> Doubt | None:
    """The doubt about axes that can be cut. None where there are none, or its use is explained otherwise."""
    stay = [k for k, c in enumerate(doubt.candidates) if any(cuttable(axis) for axis in c.axes)]
    idioms = frozenset(n for n, k in enumerate(stay) if k in doubt.idioms)
    if not stay or (doubt.idioms and not idioms):
        return None
    return doubt._replace(candidates=tuple(doubt.candidates[k] for k in stay), idioms=idioms)


def apply_verdict(ledger: Ledger, number: int, verdict: Verdict) -> None:
    """Write to the ledger what a constant turned out to be."""
    doubt = ledger.doubts[number]
    ledger.eqn, ledger.callers = doubt.eqn, doubt.callers
    for labels in verdict.open:
        words = (
            f"the constant {doubt.constant:g} may stand for the size of these channels, which can't be proved"
        )
        ledger.freeze(labels, words)
    ledger.stay += [(labels, doubt.constant) for labels in verdict.stays]
    if verdict.baked is not None:
        ledger.verdicts[number] = verdict.baked
        for labels in verdict.baked.axes:
            ledger.unmask(labels, f"their number is part of the constant {doubt.constant:g}")
