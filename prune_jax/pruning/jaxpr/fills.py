"""What element-wise functions make of the numbers at masked positions."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from prune_jax.pruning.jaxpr.values import (
    JUNK,
    LIVE,
    NONNEGATIVE,
    POSITIVE,
    WILD,
    Fill,
    is_number,
    is_zero,
    join,
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
    "zeros_like": np.zeros_like,
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
    "eq_to": np.equal,
    "le_to": np.less_equal,
    "lt_to": np.less,
    "mulhi": None,
    "igamma": None,
    "igammac": None,
    "igamma_grad_a": None,
    "polygamma": None,
    "zeta": None,
    "shift_left": None,
    "shift_right_logical": None,
    "shift_right_arithmetic": None,
    "complex": None,
}

MANY = ("regularized_incomplete_beta", "polynomial")  # functions of three numbers and more

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


def fill_after(name: str, fills: list[Fill], eqn: Any) -> Fill:
    """Fill of the result of element-wise ``name`` on operands with these fills."""
    if name == "select_n":
        return _select_fill(fills, eqn)
    if name == "clamp":
        low, x, high = fills
        return _binary_fill("min", _binary_fill("max", x, low), high)
    if name in MANY:
        return LIVE if all(fill == LIVE for fill in fills) else WILD
    if len(fills) == 1:
        return _unary_fill(name, fills[0], eqn)
    return _binary_fill(name, *fills)
