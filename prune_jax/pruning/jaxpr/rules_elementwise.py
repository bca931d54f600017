"""Element-wise primitives: operands are coupled index by index."""

import functools
import math
from typing import Any

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


def _fill_along(value: Value, axis: int, rank: int, size: int) -> Fill:
    """Fill of an operand along an axis of the result, scalars and size-1 axes included."""
    if len(value.shape) == rank and value.shape[axis] == size:
        return value.fills[axis]
    return constant_fill(value.known)


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


def _along(ledger: Ledger, name: str, eqn: Any, ins: list[Value], axis: int) -> tuple[Labels, Fill]:
    """Labels and fill of one axis of the result."""
    shape = eqn.outvars[0].aval.shape
    rank, size = len(shape), shape[axis]
    own = []
    for value in ins:
        if len(value.shape) == rank:
            if value.shape[axis] == size:
                own.append((value.axes[axis], is_constant(value)))
            else:
                ledger.freeze(value.axes[axis], "one channel is spread over an axis")
    labels = functools.reduce(ledger.couple, [labels for labels, _ in own])
    if all(
        constant or is_fixed(labels) for labels, constant in own
    ):  # a table beside a fixed axis is fixed too
        labels = next((labels for labels, _ in own if is_fixed(labels)), labels)
    if is_fixed(labels):  # no position along this axis is ever masked
        return labels, LIVE
    return labels, fill_after(name, [_fill_along(v, axis, rank, size) for v in ins], eqn)


def elementwise(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Couple all operands along every axis of the result."""
    name, aval = eqn.primitive.name, eqn.outvars[0].aval
    pairs = [_along(ledger, name, eqn, ins, axis) for axis in range(len(aval.shape))]
    axes, fills = zip(*pairs, strict=True) if pairs else ((), ())
    known = _fold(name, ins, eqn)
    if all(map(is_constant, ins)):  # a table that no mask touches
        fills = (constant_fill(known),) * len(axes)
    out = Value(aval, axes, fills, known, total=_kept_total(name, ins), **origin(ins))
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
    """The last operand. The first one is only held alive."""
    return ins[-1:]


def bitcast(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Element-wise where the width stays. A change of width adds or removes an axis."""
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
