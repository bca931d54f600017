"""Sizes that a trace may have baked into constants: a mean's divisor, an attention's 1/sqrt(d).

A trace holds numbers only, so what a number means has to be proved. Here constants that equal a power of a size that
could be cut are noted as doubts, with all sizes that they could stand for. ``doubts`` settles them.
"""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from prune_jax.pruning.jaxpr.labels import Labels, Ledger, is_fixed
from prune_jax.pruning.jaxpr.values import Total, Value, constant_fill, is_activation

POWERS = (1.0, -1.0, 0.5, -0.5)
# float32 holds 1/sqrt(n) to about 6e-8 relative. Neighbouring sizes up to 10**5 differ by more.
RELATIVE = 2e-6


class Candidate(NamedTuple):
    """The constant may be (product of the axes' sizes) ** power. None: a size less one (n - 1)."""

    power: float | None
    axes: tuple[Labels, ...]


class Doubt(NamedTuple):
    """Operand ``operand`` of an equation is a constant that equals the size of something."""

    eqn: Any
    callers: tuple[Any, ...]
    operand: int
    constant: float
    candidates: tuple[Candidate, ...]
    idioms: frozenset[int]  # candidates whose use is that of a size: sum / n, q.k / sqrt(d)


class Baked(NamedTuple):
    """A settled doubt: the constant is (product of the axes' sizes) ** power."""

    operand: int
    power: float
    axes: tuple[Labels, ...]


def power_of(constant: float, size: int) -> float | None:
    """The power of ``size`` that the constant equals, if any."""
    for power in POWERS:
        if size > 1 and abs(constant - size**power) <= RELATIVE * size**power:
            return power
    return None


def _length(axes: tuple[Labels, ...]) -> int:
    return math.prod(len(axis) for axis in axes)


def _can_be_cut(axes: tuple[Labels, ...]) -> bool:
    return any(not is_fixed(axis) for axis in axes)


def _subsets(axes: tuple[Labels, ...]) -> list[tuple[Labels, ...]]:
    axes = tuple(axis for axis in axes if len(axis) > 1)
    sizes = range(len(axes), 0, -1)
    return [subset for n in sizes for subset in itertools.combinations(axes, n)]


def _of_sum(constant: float, total: Total) -> list[Candidate]:
    """Products of summed axes that the constant equals, the full product first."""
    found = [
        Candidate(power, axes)
        for axes in _subsets(total.axes)
        if (power := power_of(constant, _length(axes)))
    ]
    less = [axes for axes in _subsets(total.axes) if _can_be_cut(axes) and constant == _length(axes) - 1]
    return found + [Candidate(None, axes) for axes in less]


def _of_shape(constant: float, value: Value) -> list[Candidate]:
    axes = [axis for axis in value.axes if not is_fixed(axis) and len(axis) > 1]
    return [Candidate(power, (axis,)) for axis in axes if (power := power_of(constant, len(axis)))]


def _constant(value: Value) -> float | None:
    if value.leaves or value.data or value.known is None or value.known.dtype.kind not in "fiu":
        return None
    fill = constant_fill(value.known)
    return None if isinstance(fill, str) else fill


def notice_scale(ledger: Ledger, name: str, ins: list[Value], out: Value) -> Value:
    """Note a constant factor or divisor that could stand for a size. Pass a sum's record on."""
    for operand, other in ((1, 0), (0, 1)) if name == "mul" else ((1, 0),):
        constant, value = _constant(ins[operand]), ins[other]
        if constant is None or (value.known is not None and not value.data):
            continue
        return _scaled(ledger, operand, constant, value, out)
    return out


def _rest(total: Total | None, gone: tuple[Labels, ...], doubts: tuple[int, ...] = ()) -> Total:
    """The record of a sum whose scaling by the length of ``gone`` is done with."""
    if total is None:
        return Total((), doubts)
    ids = [id(axis) for axis in gone]
    left = tuple(axis for axis in total.axes if id(axis) not in ids)
    steps = doubts if len(left) < len(total.axes) else ()
    return total._replace(axes=left, doubts=(*total.doubts, *doubts), steps=(*total.steps, *steps))


def _scaled(ledger: Ledger, operand: int, constant: float, value: Value, out: Value) -> Value:
    total = value.total
    summed = _of_sum(constant, total) if total else []
    cut = [c for c in summed if _can_be_cut(c.axes)]
    if summed and not cut and not (total and total.weak):
        return out._replace(total=_rest(total, summed[0].axes))  # the mean over axes that nothing can cut
    sure = (
        bool(summed)
        and total is not None
        and not total.weak
        and _length(summed[0].axes) == _length(total.axes)
    )
    cut = cut or _of_shape(constant, value)
    if not cut:
        return out._replace(total=total)
    # A sum scaled by its full length is a mean. Any other match is a coincidence until proved.
    idioms = frozenset({0}) if sure and cut[0].power is not None and len(summed) == len(cut) else frozenset()
    if idioms and total is not None:
        for step in total.steps:  # this completes a mean in several steps
            ledger.confirm_step(step)
    number = ledger.doubt(Doubt(ledger.eqn, ledger.callers, operand, constant, tuple(cut), idioms))
    return out._replace(total=_rest(total, cut[0].axes, (number,)))


def multiplied(ledger: Ledger, left: Value, right: Value, summed: list[tuple[int, int]]) -> Total | None:
    """Record of a product summed over pairs of axes.

    Two activations that meet over an axis by whose size one of them was scaled: attention.
    """
    axes = tuple(left.axes[i] for i, _ in summed)
    if not (is_activation(left) and is_activation(right)):
        return Total(axes, (), weak=True) if _can_be_cut(axes) else None
    for value, side in ((left, 0), (right, 1)):
        for number in value.total.doubts if value.total else ():
            for pair in summed:
                ledger.confirm(number, value.axes[pair[side]])
    return Total(axes)


def settled_as(doubt: Doubt, candidate: Candidate) -> Baked:
    """The doubt with one of its candidates proved."""
    assert candidate.power is not None
    return Baked(doubt.operand, candidate.power, candidate.axes)


def rescaled(constant: Any, baked: Baked, alive: np.ndarray) -> Any:
    """The constant that a trace at the smaller size would have baked in."""
    ratio = 1.0
    for axis in baked.axes:
        ratio *= np.count_nonzero((axis < 0) | alive[np.maximum(axis, 0)]) / len(axis)
    number = np.asarray(constant)
    return (number.astype(np.float64) * ratio**baked.power).astype(number.dtype)
