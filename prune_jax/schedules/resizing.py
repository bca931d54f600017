"""A schedule's shape over another number of epochs, for toy-size runs of the paper's rows."""

from dataclasses import replace

from prune_jax.schedules.pieces import Piece
from prune_jax.schedules.schedule import LRSchedule


def resize(schedule: LRSchedule, epochs: int) -> LRSchedule:
    """The schedule stretched or squeezed to ``epochs``: every stage starts at the same share of it.

    Starts are rounded to whole epochs, halves up. The first stage keeps an epoch, another that is left
    without one goes. Raises ValueError when ``epochs < 1`` or for a part of a curve.
    """
    share = epochs / schedule.epochs
    starts = [0, *(max(1, half_up(piece.start * share)) for piece in schedule.pieces[1:])]
    ends = [*starts[1:], epochs]
    pieces = [
        _piece(schedule, piece, start, end - start)
        for piece, start, end in zip(schedule.pieces, starts, ends, strict=True)
        if start < min(end, epochs)
    ]
    return LRSchedule(tuple(pieces), epochs)


def half_up(number: float) -> int:
    """The nearest whole number. Halves go up, for positive numbers."""
    return int(number + 0.5)


def _piece(schedule: LRSchedule, piece: Piece, start: int, length: int) -> Piece:
    if piece.kind == "constant":
        return replace(piece, start=start)
    stages = {begin: end - begin for begin, end, _ in schedule.stages}
    if piece.offset or piece.period != stages[piece.start]:
        raise ValueError(
            f"schedule '{schedule}' holds a part of a curve; resize the whole schedule, then cut"
        )
    return replace(piece, start=start, period=length)
