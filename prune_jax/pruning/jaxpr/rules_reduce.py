"""Reductions and windows: what is summed over the channels themselves no mask can stand for."""

import math
from typing import Any

from prune_jax.pruning.jaxpr.labels import Labels, Ledger, is_fixed
from prune_jax.pruning.jaxpr.values import JUNK, LIVE, WILD, Fill, Total, Value, is_number, is_zero, origin

# Reductions that ignore exactly this number.
NEUTRAL = {"reduce_sum": 0.0, "reduce_prod": 1.0, "reduce_or": 0.0, "reduce_and": 1.0, "reduce_xor": 0.0}
KEEPS = {"reduce_max", "reduce_min", "reduce_or", "reduce_and"}  # of equal numbers: the same number
POSITIONS = {"argmax", "argmin"}


def _unnoticed(name: str, fill: Fill) -> bool:
    return name in NEUTRAL and not isinstance(fill, str) and fill == NEUTRAL[name]


def _fill_after(name: str, fill: Fill, length: int) -> Fill:
    """Fill along another axis than the reduced ones, which hold ``length`` numbers (masks keep shapes)."""
    if name in KEEPS or name == "reduce_sum":
        return fill * length if name == "reduce_sum" and is_number(fill) else fill
    if fill in (LIVE, WILD) or is_zero(fill):
        return fill
    return JUNK


def reduce(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Reduced axes go. Reduced channels are masked exactly only where the mask is neutral."""
    value, name = ins[0], eqn.primitive.name
    gone = {int(k) for k in eqn.params["axes"]}
    for k in gone:
        ledger.mix(value.axes[k])
        if name in POSITIONS:
            ledger.freeze(value.axes[k], "the result is a channel's position")
        elif not _unnoticed(name, value.fills[k]):
            ledger.unmask(value.axes[k], "it reduces over the channels, masked ones included")
    stay = [k for k in range(len(value.shape)) if k not in gone]
    length = math.prod(value.shape[k] for k in gone)
    total = None
    if name == "reduce_sum":
        before = value.total if value.total and not value.total.weak else Total(())
        total = before._replace(axes=tuple(value.axes[k] for k in sorted(gone)) + before.axes)
    return [
        Value(
            var.aval,
            tuple(value.axes[k] for k in stay),
            tuple(_fill_after(name, value.fills[k], length) for k in stay),
            total=total,
            **origin(ins),
        )
        for var in eqn.outvars
    ]


def _window_is_one(eqn: Any, k: int) -> bool:
    p = eqn.params
    return (
        p["window_dimensions"][k] == 1
        and p["window_strides"][k] == 1
        and tuple(p["padding"][k]) == (0, 0)
        and p.get("base_dilation", (1,) * (k + 1))[k] == 1
    )


def _window_axis(ledger: Ledger, eqn: Any, value: Value, k: int) -> tuple[Labels, Fill]:
    name, fill = eqn.primitive.name, value.fills[k]
    if _window_is_one(eqn, k):
        if name == "reduce_window_sum" and not is_zero(fill) and fill != LIVE:
            return value.axes[k], JUNK if is_number(fill) else fill
        return value.axes[k], fill
    if not is_fixed(value.axes[k]):
        ledger.freeze(value.axes[k], "a window slides along the channels")
    return ledger.fixed(eqn.outvars[0].aval.shape[k], "spatial axis"), LIVE


def reduce_window(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Axes with a window of one pass, others are spatial."""
    axes, fills = zip(*(_window_axis(ledger, eqn, ins[0], k) for k in range(len(ins[0].shape))), strict=True)
    total = None
    if eqn.primitive.name == "reduce_window_sum":
        length = math.prod(eqn.params["window_dimensions"])
        total = Total((ledger.fixed(length, "window"),))
    return [Value(eqn.outvars[0].aval, axes, fills, total=total, **origin(ins))]


def reduce_window_by(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """A window reduced by a function of the network's own, over one or several arrays alike."""
    operands, outs = ins[: len(eqn.outvars)], []
    for value in operands[1:]:
        for a, b in zip(operands[0].axes, value.axes, strict=True):
            ledger.couple(a, b)
    for var, value in zip(eqn.outvars, operands, strict=True):
        axes = tuple(_window_axis(ledger, eqn, value, k)[0] for k in range(len(value.shape)))
        outs.append(Value(var.aval, axes, (WILD,) * len(axes), **origin(ins)))
    return outs


def cumulate(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Running reductions keep the axis. Masked channels must be neutral in it."""
    value, axis = ins[0], eqn.params["axis"]
    neutral = {"cumsum": 0.0, "cumprod": 1.0}.get(eqn.primitive.name)
    if value.fills[axis] != neutral:
        ledger.unmask(value.axes[axis], "it accumulates over the channels, masked ones included")
    fills = tuple(
        WILD if f == WILD else JUNK if k == axis or (is_number(f) and f != 0) else f
        for k, f in enumerate(value.fills)
    )
    return [Value(eqn.outvars[0].aval, value.axes, fills, **origin(ins))]


def sort(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Sorted along one axis, which then has no fixed meaning per index. Other axes couple."""
    axis = eqn.params["dimension"]
    out = []
    for value in ins:
        ledger.freeze(value.axes[axis], "sorted along the channels")
    for k in range(len(ins[0].shape)):
        for value in ins[1:]:
            ledger.couple(ins[0].axes[k], value.axes[k])
    for var, value in zip(eqn.outvars, ins, strict=True):
        fills = tuple(WILD if WILD in (v.fills[k] for v in ins) else JUNK for k in range(len(value.shape)))
        out.append(Value(var.aval, value.axes, fills, **origin(ins)))
    return out


RULES = {
    **dict.fromkeys(
        ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_or", "reduce_and", "reduce_xor"),
        reduce,
    ),
    **dict.fromkeys(("argmax", "argmin"), reduce),
    **dict.fromkeys(("reduce_window_max", "reduce_window_min", "reduce_window_sum"), reduce_window),
    "reduce_window": reduce_window_by,
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), cumulate),
    "sort": sort,
}
