"""LRSchedule: which learning rate holds in which epoch, compared and hashed by value."""

import itertools
import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from prune_jax.schedules.pieces import CURVES, Piece, read_pieces


@dataclass(frozen=True)
class LRSchedule:
    """A learning rate (LR) for each of ``epochs`` epochs, counted from 0.

    Two schedules are equal when they give the same LRs by the same pieces. Neighbouring pieces that continue each
    other are merged, so ``0:0.1,30:0.1,60:0.01`` is ``0:0.1,60:0.01``. ``str()`` is the canonical text, which
    ``parse`` reads back.

    Attributes:
      pieces: each begins at an epoch and holds until the next one begins.
      epochs: how long the schedule lasts.

    Raises:
      ValueError: the pieces don't start at epoch 0, don't go forward, reach past ``epochs``, or hold an LR that isn't
        positive.

    Example:
      >>> schedule = LRSchedule.parse("0:1e-1,30:1e-2", epochs=90)
      >>> schedule.at(29), schedule.at(30), schedule.first_stage
      (0.1, 0.01, 30)

    Source: the notation is that of arXiv 2301.05219 §3.2.
    """

    pieces: tuple[Piece, ...]
    epochs: int

    def __post_init__(self) -> None:
        epochs = _whole(self.epochs, "epochs")
        if epochs < 1:
            raise ValueError(f"a schedule lasts at least 1 epoch, got epochs={self.epochs}")
        _check(self.pieces, epochs)
        object.__setattr__(self, "epochs", epochs)
        object.__setattr__(self, "pieces", _merged(self.pieces))

    @classmethod
    def parse(cls, text: str, epochs: int) -> "LRSchedule":
        """Read the paper's notation, such as ``0:1e-1,30:1e-2`` (§3.2): from epoch 30 on the LR is 1e-2.

        Curves: ``0:cosine(FIRST,LAST)`` and ``0:linear(FIRST,LAST)`` last until the next piece. A part of
        a longer curve is ``cosine(FIRST,LAST,OFFSET,PERIOD)``. Raises ValueError naming the bad part.
        """
        last = _whole(epochs, "epochs")
        return cls(read_pieces(text, last), last)

    def __str__(self) -> str:
        return _text(self.pieces, self.epochs)

    def at(self, epoch: int) -> float:
        """LR of an epoch (that of the largest start <= epoch). ValueError outside [0, epochs)."""
        epoch = _whole(epoch, "epoch")
        if not 0 <= epoch < self.epochs:
            raise ValueError(f"epoch {epoch} lies outside schedule '{self}' of {self.epochs} epochs")
        piece = next(p for p in reversed(self.pieces) if p.start <= epoch)
        return piece.at(epoch - piece.start)

    @property
    def stages(self) -> tuple[tuple[int, int, float], ...]:
        """Each piece as (start, end, LR at its start), end exclusive. A curve counts as one stage."""
        return tuple(
            (piece.start, end, piece.at(0))
            for piece, end in zip(self.pieces, _ends(self.pieces, self.epochs), strict=True)
        )

    @property
    def first_stage(self) -> int:
        """Epochs in the first LR stage: N of Eq. (1), §5.1.

        The paper defines it for step schedules only. That a curve counts as one stage is our inference.
        """
        return self.stages[0][1]

    def tail(self, epoch: int) -> "LRSchedule":
        """What is left from ``epoch`` on, from 0 again: Table 4's S4.2 rows are tails of scratch's."""
        self._inside(epoch, 0, self.epochs - 1, "tail")
        return LRSchedule(_shift(_cut_front(self.pieces, epoch), -epoch), self.epochs - epoch)

    def head(self, epoch: int) -> "LRSchedule":
        """The first ``epoch`` epochs. ``compose(s.head(e), s.tail(e)) == s``."""
        self._inside(epoch, 1, self.epochs, "head")
        return LRSchedule(tuple(p for p in self.pieces if p.start < epoch), epoch)

    def extend(self, extra: int) -> "LRSchedule":
        """Add ``extra`` epochs to the first stage. Later stages start that much later (§5.2, Table 5).

        Raises ValueError for a curved first stage, which the paper doesn't define.
        """
        if _whole(extra, "extra") < 0:
            raise ValueError(f"extend() adds epochs, got extra={extra}; to shorten use head() or tail()")
        if self.pieces[0].kind != "constant":
            raise ValueError(f"extend() needs a constant first stage, '{self}' begins with a curve")
        return LRSchedule(self.pieces[:1] + _shift(self.pieces[1:], extra), self.epochs + extra)

    def optax(self, steps_per_epoch: int) -> Callable[[Any], Any]:
        """Jittable step -> LR: ``at(step // steps_per_epoch)`` in float32. Past the end it is the last piece.

        Raises ValueError when ``steps_per_epoch < 1``.
        """
        import optax

        if _whole(steps_per_epoch, "steps_per_epoch") < 1:
            raise ValueError(f"steps_per_epoch must be at least 1, got {steps_per_epoch}")
        schedules = [piece.optax(steps_per_epoch) for piece in self.pieces]
        return optax.join_schedules(schedules, [p.start * steps_per_epoch for p in self.pieces[1:]])

    def _inside(self, epoch: int, low: int, high: int, verb: str) -> None:
        if not low <= _whole(epoch, "epoch") <= high:
            raise ValueError(f"{verb}({epoch}) of '{self}' ({self.epochs} epochs): allowed {low} to {high}")


def compose(first: LRSchedule, second: LRSchedule) -> LRSchedule:
    """Run ``first``, then ``second``: the overall schedule of pretraining and retraining (Table 4)."""
    pieces = first.pieces + _shift(second.pieces, first.epochs)
    return LRSchedule(pieces, first.epochs + second.epochs)


def _whole(value: Any, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None


def _ends(pieces: tuple[Piece, ...], epochs: int) -> list[int]:
    return [*(piece.start for piece in pieces[1:]), epochs]


def _text(pieces: tuple[Piece, ...], epochs: int) -> str:
    ends = _ends(pieces, epochs)
    return ",".join(piece.text(end - piece.start) for piece, end in zip(pieces, ends, strict=True))


def _shift(pieces: Iterable[Piece], by: int) -> tuple[Piece, ...]:
    return tuple(replace(piece, start=piece.start + by) for piece in pieces)


def _cut_front(pieces: tuple[Piece, ...], epoch: int) -> tuple[Piece, ...]:
    """Drop what lies before ``epoch``. A curve that is cut keeps its phase in ``offset``."""
    before = [piece for piece in pieces if piece.start <= epoch]
    current = before[-1]
    if current.kind != "constant":
        current = replace(current, offset=current.offset + epoch - current.start)
    return (replace(current, start=epoch), *pieces[len(before) :])


def _merged(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    out: list[Piece] = []
    for piece in pieces:
        if piece.first == piece.last:
            piece = Piece(piece.start, "constant", piece.first, piece.last)
        if not (out and _continues(out[-1], piece)):
            out.append(piece)
    return tuple(out)


def _continues(before: Piece, after: Piece) -> bool:
    same = (before.kind, before.first, before.last, before.period) == (
        after.kind,
        after.first,
        after.last,
        after.period,
    )
    passed = after.start - before.start if before.kind != "constant" else 0
    return same and after.offset == before.offset + passed


def _check(pieces: tuple[Piece, ...], epochs: int) -> None:
    if not pieces:
        raise ValueError("a schedule needs at least one piece, such as '0:0.1'")
    text = _text(pieces, epochs)
    if pieces[0].start != 0:
        raise ValueError(
            f"schedule '{text}' starts at epoch {pieces[0].start}; the first stage starts at epoch 0"
        )
    for before, after in itertools.pairwise(pieces):
        if after.start <= before.start:
            word = "repeats" if after.start == before.start else "goes backwards to"
            raise ValueError(f"schedule '{text}' {word} epoch {after.start}; starts must increase")
    if pieces[-1].start >= epochs:
        raise ValueError(
            f"schedule '{text}' has a stage that starts at epoch {pieces[-1].start}, "
            f"but lasts {epochs} epochs (0 to {epochs - 1})"
        )
    for piece, end in zip(pieces, _ends(pieces, epochs), strict=True):
        _check_piece(text, piece, end - piece.start)


def _check_piece(text: str, piece: Piece, length: int) -> None:
    name = piece.text(length)
    if piece.kind not in ("constant", *CURVES):
        raise ValueError(f"schedule '{text}': unknown kind {piece.kind!r}; allowed: constant, linear, cosine")
    if not (math.isfinite(piece.first) and math.isfinite(piece.last)):
        raise ValueError(f"schedule '{text}': the LR in '{name}' is not finite")
    if piece.first <= 0 or piece.last < 0:
        raise ValueError(
            f"schedule '{text}': the LR in '{name}' is not positive; only a curve may run towards 0"
        )
    if piece.kind in CURVES and not 0 <= piece.offset <= piece.period - length:
        raise ValueError(
            f"schedule '{text}': '{name}' needs epochs {piece.offset} to {piece.offset + length} "
            f"of a curve that has {piece.period}"
        )
