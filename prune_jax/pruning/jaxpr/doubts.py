"""Prove what a suspicious constant means, or freeze the channels whose size it could stand for.

Evidence, in this order: where the number was written (``jax.numpy.mean`` divides by what it
reduces, ``jax.nn.gelu`` knows no size); a second trace with one channel less, whose constants
either follow the size or don't; and, where the network can't be traced at another size (Linen
checks shapes), the idiom itself: a sum divided by its own length, a product of activations scaled
by the root of theirs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from prune_jax.pruning.jaxpr.labels import Classes, Labels, Ledger
from prune_jax.pruning.jaxpr.sizes import RELATIVE, Baked, Doubt, settled_as

# Sources whose constants are sizes of the axes that they reduce or contract.
SIZED = (
    ("jax/_src/numpy/reductions.py", None),
    ("flax/linen/attention.py", None),
    ("flax/nnx/nn/attention.py", None),
    ("jax/_src/nn/functions.py", "dot_product_attention"),
)
# Sources whose constants are numbers of mathematics.
PURE = (("jax/_src/nn/functions.py", None), ("jax/_src/scipy/special.py", None))


def _frames(eqn: Any) -> list[tuple[str, str]]:
    """(file, function) from the innermost frame to the first outside jax and flax."""
    traceback = eqn.source_info.traceback
    found = []
    for frame in traceback.frames if traceback else ():
        path = frame.file_name.replace("\\", "/")
        if "/jax/" not in path and "/flax/" not in path:
            break
        found.append((path, frame.function_name))
    return found


def _written_in(frames: list[tuple[str, str]], places: tuple) -> bool:
    return any(
        path.endswith(file) and (function is None or function in name)
        for path, name in frames
        for file, function in places
    )


def by_source(doubt: Doubt) -> tuple[bool, Baked | None]:
    """(settled, baked) from where the constant was written."""
    frames = _frames(doubt.eqn)
    if _written_in(frames, SIZED):
        if len(doubt.idioms) == 1:
            return True, settled_as(doubt, doubt.candidates[next(iter(doubt.idioms))])
        return not doubt.idioms and _written_in(frames, SIZED[:1]), None
    return _written_in(frames, PURE), None


def without_trace(doubt: Doubt) -> tuple[bool, Baked | None]:
    """(settled, baked) where the network can't be traced at another size: the idiom has to do."""
    if len(doubt.idioms) == 1:
        return True, settled_as(doubt, doubt.candidates[next(iter(doubt.idioms))])
    return False, None


def by_retrace(
    doubt: Doubt, sizes: Callable[[Labels], int], after: float | None
) -> tuple[bool, Baked | None]:
    """(settled, baked) from the constant ``after`` a trace at smaller sizes; None: no such trace."""
    if after is None:
        return without_trace(doubt)
    if abs(after - doubt.constant) <= RELATIVE * abs(doubt.constant):
        return not doubt.idioms, None
    fits = []
    for candidate in doubt.candidates:
        ratio = np.prod([sizes(axis) / len(axis) for axis in candidate.axes])
        expected = doubt.constant * ratio ** (candidate.power or 0)
        if candidate.power is not None and abs(after - expected) <= RELATIVE * abs(expected):
            fits.append(candidate)
    return (True, settled_as(doubt, fits[0])) if len(fits) == 1 else (False, None)


def matters(doubt: Doubt, solved: Classes, held: np.ndarray) -> bool:
    """Whether a channel of a params leaf that isn't frozen yet hangs on the constant."""
    for candidate in doubt.candidates:
        for labels in candidate.axes:
            ids = solved.of[labels[labels >= 0]]
            if (held[ids] & (solved.frozen[ids] < 0)).any():
                return True
    return False


def apply_verdict(ledger: Ledger, number: int, settled: bool, baked: Baked | None) -> None:
    """Write to the ledger what a constant turned out to be."""
    doubt = ledger.doubts[number]
    ledger.eqn = doubt.eqn
    if not settled:
        words = (
            f"the constant {doubt.constant:g} may stand for the size of these channels, which can't be proved"
        )
        for candidate in doubt.candidates:
            for labels in candidate.axes:
                ledger.freeze(labels, words)
    elif baked is not None:
        ledger.verdicts[number] = baked
        for labels in baked.axes:
            ledger.unmask(labels, f"their number is part of the constant {doubt.constant:g}")
