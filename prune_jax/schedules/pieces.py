"""One piece of a schedule: a constant LR, or a line or half cosine that runs from one LR towards another."""

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CURVES = ("linear", "cosine")
GRAMMAR = "allowed: 'EPOCH:LR', 'EPOCH:cosine(FIRST,LAST)' or 'EPOCH:linear(FIRST,LAST)', joined by commas"

_CALL = re.compile(r"([a-z]+)\(([^()]*)\)")


@dataclass(frozen=True)
class Piece:
    """The LR from epoch ``start`` up to the next piece.

    At ``t`` epochs after ``start`` a curve has done ``(offset + t) / period`` of its way from ``first``
    to ``last``, so a piece of its own never reaches ``last``: that is the next piece's LR (PyTorch's
    CosineAnnealingLR with T_max = period). A constant has ``first == last`` and ``period == 0``.
    """

    start: int
    kind: str
    first: float
    last: float
    offset: int = 0
    period: int = 0

    def at(self, t: int) -> float:
        """LR ``t`` epochs after the piece began."""
        if self.kind == "constant":
            return self.first
        done = (self.offset + t) / self.period
        if self.kind == "cosine":
            done = (1.0 - math.cos(math.pi * done)) / 2.0
        return self.first + (self.last - self.first) * done

    def text(self, length: int) -> str:
        """The piece as ``parse`` reads it back. The phase is written only where the curve is cut."""
        if self.kind == "constant":
            return f"{self.start}:{self.first!r}"
        whole = self.offset == 0 and self.period == length
        phase = "" if whole else f",{self.offset},{self.period}"
        return f"{self.start}:{self.kind}({self.first!r},{self.last!r}{phase})"

    def optax(self, steps_per_epoch: int) -> Callable[[Any], Any]:
        """Map steps since the piece began to its LR, as a jittable function."""
        import optax

        if self.kind == "constant":
            return optax.constant_schedule(self.first)
        if self.kind == "linear":
            curve = optax.linear_schedule(self.first, self.last, self.period)
        else:
            curve = optax.cosine_decay_schedule(self.first, self.period, alpha=self.last / self.first)
        offset = self.offset
        return lambda step: curve(step // steps_per_epoch + offset)


def read_pieces(text: str, epochs: int) -> tuple[Piece, ...]:
    """Split a schedule's text into pieces. Raises ValueError naming the part that can't be read."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"schedule {text!r} is empty; {GRAMMAR}")
    return _pieces(text, epochs)


@functools.lru_cache(maxsize=4096)  # a memo of a pure function: thousands of records share few schedules
def _pieces(text: str, epochs: int) -> tuple[Piece, ...]:
    parts = [part.strip() for part in re.split(r",(?![^(]*\))", text)]
    starts = [_start(text, part) for part in parts]
    ends = [*starts[1:], epochs]
    return tuple(
        _piece(text, part, start, end - start) for part, start, end in zip(parts, starts, ends, strict=True)
    )


def _start(text: str, part: str) -> int:
    epoch, colon, _ = part.partition(":")
    if not colon or not re.fullmatch(r"\d+", epoch.strip()):
        raise ValueError(f"schedule {text!r}: {part!r} does not begin with 'EPOCH:'; {GRAMMAR}")
    return int(epoch)


def _piece(text: str, part: str, start: int, length: int) -> Piece:
    value = part.partition(":")[2].strip()
    call = _CALL.fullmatch(value)
    if call is None:
        lr = _number(text, part, value)
        return Piece(start, "constant", lr, lr)
    kind, arguments = call[1], call[2].split(",")
    if kind not in CURVES:
        raise ValueError(f"schedule {text!r}: {kind!r} in {part!r} is no curve; allowed: {', '.join(CURVES)}")
    if len(arguments) not in (2, 4):
        raise ValueError(
            f"schedule {text!r}: {part!r} has {len(arguments)} arguments; "
            f"allowed: {kind}(FIRST,LAST) or {kind}(FIRST,LAST,OFFSET,PERIOD)"
        )
    first, last = (_number(text, part, argument) for argument in arguments[:2])
    offset, period = (_epochs(text, part, a) for a in arguments[2:]) if arguments[2:] else (0, length)
    return Piece(start, kind, first, last, offset, period)


def _number(text: str, part: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"schedule {text!r}: {value!r} in {part!r} is no learning rate; {GRAMMAR}") from None


def _epochs(text: str, part: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"schedule {text!r}: {value!r} in {part!r} is no number of epochs") from None
