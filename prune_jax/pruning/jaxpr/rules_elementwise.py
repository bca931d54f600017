"""Element-wise primitives: operands are coupled index by index."""

import math
from typing import Any, NamedTuple

import numpy as np

from prune_jax.pruning.jaxpr.fills import BINARY, MANY, PARTIAL, TOTAL, fill_after
from prune_jax.pruning.jaxpr.labels import Labels, Ledger, is_fixed
from prune_jax.pruning.jaxpr.sizes import notice_scale
from prune_jax.pruning.jaxpr.values import (
    KNOWN_LIMIT,
    LIVE,
    WILD,
    Fill,
    Total,
    Value,
    constant_fill,
    is_constant,
    origin,
)


class _Operand(NamedTuple):
    """An operand's value, whether it is a constant, whether it has the result's axes, and its one number if not."""

    value: Value
    constant: bool
    has_axes: bool
    number: Fill


def _integers(values: list[np.ndarray]) -> bool:
    return all(np.issubdtype(v.dtype, np.integer) for v in values)


def _fold(name: str, ins: list[Value], eqn: Any) -> np.ndarray | None:
    """The numbers of the result, where all operands are small constants."""
    if any(v.known is None for v in ins) or math.prod(eqn.outvars[0].aval.shape) > KNOWN_LIMIT:
        return None
    known = [np.asarray(v.known) for v in ins]
    dtype = eqn.outvars[0].aval.dtype
    with np.errstate(all="ignore"):
        if name == "select_n":
            out = np.choose(np.broadcast_to(known[0], known[1].shape).astype(int), known[1:])
        elif name == "integer_pow":
            out = known[0].astype(float) ** eqn.params["y"]
        elif name == "clamp":
            out = np.minimum(np.maximum(known[1], known[0]), known[2])
        elif name == "div" and _integers(known):
            out = np.trunc(known[0] / np.where(known[1] == 0, 1, known[1]))
        else:
            function = TOTAL.get(name) or PARTIAL.get(name) or BINARY.get(name)
            if function is None or (name in {"and", "or", "xor", "not"} and known[0].dtype != bool):
                return None
            out = function(*known)
        return np.asarray(out).astype(dtype)


def _operand(value: Value, rank: int) -> _Operand:
    has_axes = len(value.axes) == rank
    return _Operand(value, is_constant(value), has_axes, LIVE if has_axes else constant_fill(value.known))


def _along(ledger: Ledger, operands: list[_Operand], axis: int, size: int) -> tuple[Labels, list[Fill]]:
    """Labels of one axis of the result, and what the operands hold along it."""
    own, fills = [], []
    for value, constant, has_axes, number in operands:
        if not has_axes:
            fills.append(number)
        elif len(value.axes[axis]) == size:
            own.append((value.axes[axis], constant))
            fills.append(value.fills[axis])
        else:
            ledger.freeze(value.axes[axis], "one channel is spread over an axis")
            fills.append(constant_fill(value.known))
    labels = own[0][0]
    for other, _ in own[1:]:
        labels = ledger.couple(labels, other)
    if not is_fixed(labels) and all(constant or is_fixed(each) for each, constant in own):
        labels = next((each for each, _ in own if is_fixed(each)), labels)  # a table beside a fixed axis
    return labels, fills


def elementwise(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Couple all operands along every axis of the result."""
    name, aval = eqn.primitive.name, eqn.outvars[0].aval
    operands = [_operand(value, len(aval.shape)) for value in ins]
    known = _fold(name, ins, eqn)
    table = constant_fill(known) if all(each.constant for each in operands) else None
    axes, fills = [], []
    for axis, size in enumerate(aval.shape):
        labels, held = _along(ledger, operands, axis, size)
        axes.append(labels)
        if table is not None:  # no mask touches a table, and no position of a fixed axis is ever masked
            fills.append(table)
        else:
            fills.append(LIVE if is_fixed(labels) else fill_after(name, held, eqn))
    out = Value(aval, tuple(axes), tuple(fills), known, total=_kept_total(name, ins), **origin(ins))
    return [notice_scale(ledger, name, ins, out)] if name in ("mul", "div") else [out]


def _kept_total(name: str, ins: list[Value]) -> Total | None:
    """A sum stays a sum under a change of type or sign."""
    if name in ("convert_element_type", "neg", "copy", "stop_gradient", "name", "reduce_precision"):
        return ins[0].total
    return None


def identity(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Results are the operands: numbers that are placed on devices, or held in order, stay what they are."""
    return list(ins)


def second(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """The last operand; the first one is only held alive."""
    return ins[-1:]


def bitcast(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Element-wise where the width stays; a change of width adds or removes an axis."""
    aval, value = eqn.outvars[0].aval, ins[0]
    if aval.shape == value.shape:
        return [Value(aval, value.axes, (WILD,) * len(aval.shape), **origin(ins))]
    if len(aval.shape) > len(value.shape):
        axes = (*value.axes, ledger.fixed(aval.shape[-1], "bytes of a number"))
        return [Value(aval, axes, (WILD,) * len(axes), **origin(ins))]
    ledger.freeze(value.axes[-1], "bytes are joined to a number")
    return [Value(aval, value.axes[:-1], (WILD,) * len(aval.shape), **origin(ins))]


PLACED = (
    "optimization_barrier",
    "device_put",
    "sharding_constraint",
    "reshard",
    "mesh_cast",
    "pvary",
    "pcast",
    "preduced",
    "reduced_vary_cast",
    "reduced_vary_cast_p",
    "vary_unreduced_cast",
    "vary_unreduced_cast_p",
    "layout_constraint",
    "relayout",
    "shard_alike",
    "with_memory_space_constraint",
    "remove_memory_space",
    "xla_metadata_value",
)
NAMES = (*TOTAL, *PARTIAL, *BINARY, *MANY, "integer_pow", "select_n", "clamp")
RULES = {
    **dict.fromkeys(NAMES, elementwise),
    **dict.fromkeys(PLACED, identity),
    "tie": second,
    "bitcast_convert_type": bitcast,
}
