"""Sizes that a trace has baked into constants: a mean's divisor, an attention's 1/sqrt(d)."""

from typing import Any, NamedTuple

import numpy as np

from prune_jax.pruning.labels import Labels, Ledger, is_fixed
from prune_jax.pruning.values import Total, Value

# (kind, exponent p): the constant equals size**p.
POWERS = (1.0, -1.0, 0.5, -0.5)
# float32 holds 1/sqrt(n) to about 6e-8; sizes that differ by one are further apart than this
# up to n = 10**5.
RELATIVE = 2e-6


class Baked(NamedTuple):
    """Operand ``operand`` of an equation equals the product of the axes' sizes to ``power``."""

    operand: int
    power: float
    axes: tuple[Labels, ...]


def _power_of(constant: float, size: int) -> float | None:
    for power in POWERS:
        if size > 1 and abs(constant - size**power) <= RELATIVE * size**power:
            return power
    return None


def _scalar(value: Value) -> float | None:
    if value.known is None or value.known.size != 1 or value.known.dtype.kind not in "fiu":
        return None
    return float(value.known.reshape(()))


def notice_scale(ledger: Ledger, name: str, ins: list[Value], out: Value) -> Value:
    """A sum over channels that is scaled by its own length is a mean: note it, or pass the sum on."""
    for operand, other in ((1, 0), (0, 1)) if name == "mul" else ((1, 0),):
        constant, total = _scalar(ins[operand]), ins[other].total
        if constant is None or total is None:
            continue
        size = int(np.prod([len(axis) for axis in total.axes]))
        power = _power_of(constant, size)
        if power is None:
            return out._replace(total=total)
        ledger.bake(Baked(operand, power, total.axes))
        for axis in total.axes:
            ledger.unmask(axis, f"its size is part of the constant {constant:g}")
        return out
    return out


def total_of(axes: tuple[Labels, ...], before: Total | None) -> Total | None:
    """Record of a sum over ``axes``, kept only where some channel could be cut."""
    axes = axes + (before.axes if before else ())
    return Total(axes) if any(not is_fixed(axis) for axis in axes) else None


def rescaled(constant: Any, baked: Baked, alive: np.ndarray) -> Any:
    """The constant that a trace at the smaller size would have baked in."""
    ratio = 1.0
    for axis in baked.axes:
        ratio *= np.count_nonzero((axis < 0) | alive[axis]) / len(axis)
    return (np.asarray(constant, np.float64) * ratio**baked.power).astype(np.asarray(constant).dtype)
