"""Element-wise primitives: operands are coupled index by index."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from prune_jax.pruning.jaxpr.labels import Labels, Ledger, is_fixed
from prune_jax.pruning.jaxpr.sizes import notice_scale
from prune_jax.pruning.jaxpr.values import (
    JUNK,
    KNOWN_LIMIT,
    LIVE,
    NONNEGATIVE,
    POSITIVE,
    WILD,
    Fill,
    Total,
    Value,
    constant_fill,
    is_number,
    is_zero,
    join,
    origin,
    sign,
)


def _same(x: Any) -> Any:
    return x


def _logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


# Finite wherever the operand is.
TOTAL: dict[str, Callable | None] = {
    "neg": np.negative,
    "abs": np.abs,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "logistic": _logistic,
    "erf": np.vectorize(math.erf, otypes=[float]),
    "erfc": np.vectorize(math.erfc, otypes=[float]),
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "square": np.square,
    "one_minus_square": lambda x: 1 - np.square(x),
    "is_finite": np.isfinite,
    "not": np.logical_not,
    "real": np.real,
    "imag": np.imag,
    "conj": np.conj,
    "copy": _same,
    "copy_p": _same,
    "stop_gradient": _same,
    "reduce_precision": _same,
    "convert_element_type": _same,
    "name": _same,
    "sharding_constraint": _same,
    "population_count": None,
    "clz": None,
}  # fmt: skip

# May leave the finite numbers, or have a slope that does.
PARTIAL: dict[str, Callable | None] = {
    "log": np.log,
    "log2": np.log2,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "cbrt": np.cbrt,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf_inv": None,
    "lgamma": None,
    "digamma": None,
    "bessel_i0e": None,
    "bessel_i1e": None,
}

BINARY: dict[str, Callable | None] = {
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
    "rem": np.fmod,
    "atan2": np.arctan2,
    "nextafter": np.nextafter,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
    "shift_left": None,
    "shift_right_logical": None,
    "shift_right_arithmetic": None,
    "complex": None,
}

SMOOTH = {
    "add",
    "add_any",
    "sub",
    "mul",
    "max",
    "min",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "and",
    "or",
    "xor",
}

KEEPS_SIGN = {
    "tanh", "sinh", "asinh", "atan", "erf", "sign", "copy", "copy_p", "stop_gradient", "reduce_precision",
    "convert_element_type", "name", "sharding_constraint", "real",
}  # fmt: skip

# Where the slope is infinite though the value is finite: a zero cotangent becomes NaN there.
STEEP = {"sqrt": 0.0, "cbrt": 0.0, "asin": 1.0, "acos": 1.0}


def _evaluate(function: Callable | None, *numbers: float) -> Fill:
    if function is None:
        return WILD
    with np.errstate(all="ignore"):
        out = float(function(*numbers))
    return out if math.isfinite(out) else WILD


def _unary_sign(name: str, kind: str, power: int) -> Fill:
    """What a function makes of a class of numbers."""
    if name in ("exp", "exp2", "logistic"):
        return POSITIVE
    if name == "integer_pow" and power < 0:
        return POSITIVE if kind == POSITIVE else WILD
    if name in ("square", "abs") or (name == "integer_pow" and power % 2 == 0):
        return POSITIVE if kind == POSITIVE else NONNEGATIVE
    if name in KEEPS_SIGN or name == "integer_pow":
        return kind
    if name in ("log1p", "sqrt", "rsqrt", "cbrt") and kind == POSITIVE:
        return POSITIVE
    return JUNK if name in TOTAL or (name in ("log", "log2") and kind == POSITIVE) else WILD


def _unary_fill(name: str, fill: Fill, eqn: Any) -> Fill:
    if fill in (LIVE, WILD):
        return fill
    power = eqn.params.get("y", 0)
    if not is_number(fill):
        return _unary_sign(name, sign(fill), power)
    if name == "integer_pow":
        return _evaluate(lambda x: np.power(x, float(power)), fill)
    if name in STEEP and abs(fill) == STEEP[name]:
        return WILD
    return _evaluate(TOTAL.get(name) or PARTIAL.get(name), fill)


def _binary_sign(name: str, a: Fill, b: Fill) -> Fill:
    """What an operation makes of classes of numbers, neither of them wild."""
    kinds = (sign(a), sign(b))
    if name in ("add", "add_any", "max") and JUNK not in kinds:
        return POSITIVE if POSITIVE in kinds else NONNEGATIVE
    if name == "max" and kinds != (JUNK, JUNK):
        return POSITIVE if POSITIVE in kinds else NONNEGATIVE
    if name in ("mul", "min") and JUNK not in kinds:
        return POSITIVE if kinds == (POSITIVE, POSITIVE) else NONNEGATIVE
    return JUNK if name in SMOOTH else WILD


def _quotient(a: Fill, b: Fill) -> Fill:
    if b == LIVE:
        return 0.0 if is_zero(a) else JUNK
    if sign(b) == POSITIVE:
        return 0.0 if is_zero(a) else sign(a)
    return JUNK if is_number(b) and b != 0 else WILD


def _binary_fill(name: str, a: Fill, b: Fill) -> Fill:
    if WILD in (a, b):
        return WILD
    if a == LIVE and b == LIVE:
        return LIVE
    if is_number(a) and is_number(b):
        return _evaluate(BINARY[name], a, b)
    if name == "mul" and (is_zero(a) or is_zero(b)):
        return 0.0
    return _quotient(a, b) if name == "div" else _binary_sign(name, a, b)


def _select_fill(fills: list[Fill], eqn: Any) -> Fill:
    which, cases = fills[0], fills[1:]
    if is_number(which):
        return cases[int(which)]
    return join(cases)


def _fill(name: str, fills: list[Fill], eqn: Any) -> Fill:
    if name == "select_n":
        return _select_fill(fills, eqn)
    if name == "clamp":
        low, x, high = fills
        return _binary_fill("min", _binary_fill("max", x, low), high)
    if len(fills) == 1:
        return _unary_fill(name, fills[0], eqn)
    return _binary_fill(name, *fills)


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
                own.append(value.axes[axis])
            else:
                ledger.freeze(value.axes[axis], "one channel is spread over an axis")
    labels = functools.reduce(ledger.couple, own)
    if is_fixed(labels):  # no position along this axis is ever masked
        return labels, LIVE
    return labels, _fill(name, [_fill_along(v, axis, rank, size) for v in ins], eqn)


def elementwise(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Couple all operands along every axis of the result."""
    name, aval = eqn.primitive.name, eqn.outvars[0].aval
    pairs = [_along(ledger, name, eqn, ins, axis) for axis in range(len(aval.shape))]
    axes, fills = zip(*pairs, strict=True) if pairs else ((), ())
    known = _fold(name, ins, eqn)
    out = Value(aval, axes, fills, known, total=_kept_total(name, ins), **origin(ins))
    return [notice_scale(ledger, name, ins, out)] if name in ("mul", "div") else [out]


def _kept_total(name: str, ins: list[Value]) -> Total | None:
    """A sum stays a sum under a change of type or sign."""
    if name in ("convert_element_type", "neg", "copy", "stop_gradient", "name", "reduce_precision"):
        return ins[0].total
    return None


def identity(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Results are the operands (optimization_barrier and its like)."""
    return list(ins)


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


NAMES = (*TOTAL, *PARTIAL, *BINARY, "integer_pow", "select_n", "clamp")
RULES = {
    **dict.fromkeys(NAMES, elementwise),
    "optimization_barrier": identity,
    "bitcast_convert_type": bitcast,
}
