"""Abstract values: what the walk knows of an array instead of its numbers."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from prune_jax.pruning.jaxpr.labels import Labels

# What an array holds at the positions of channels that are masked. A number: exactly that.
LIVE = "live"  # the same value that positions which stay could hold
POSITIVE = "positive"  # finite and more than 0
NONNEGATIVE = "nonnegative"  # finite and not less than 0
JUNK = "junk"  # finite, but nothing else is known
WILD = "wild"  # maybe not finite (or without a finite slope)
Fill = float | str

_LESS_KNOWN = (POSITIVE, NONNEGATIVE, JUNK, WILD)

KNOWN_LIMIT = 1 << 16  # larger constants are not folded


class Total(NamedTuple):
    """The value is a sum over axes with these labels (axes that can't be cut included).

    ``doubts`` number the suspicious constants by which it was scaled, ``steps`` those that may have divided by a part
    of its length. ``weak``: activations were
    summed with weights, and a constant that equals the length need not mean it.
    """

    axes: tuple[Labels, ...]
    doubts: tuple[int, ...] = ()
    weak: bool = False
    steps: tuple[int, ...] = ()


class Value(NamedTuple):
    """An array as labels per axis, fills per axis, and where it comes from.

    ``known`` holds the numbers where they are constants of the trace. ``leaves`` are the params leaves it is computed
    from. ``data`` says whether a network input is mixed in as well, ``layers`` whether it has passed a convolution or
    matrix product. ``bound``: a constant in the body of a loop or a branch, which all of the body's equations share.
    Other constants are a table of its own wherever they are used.
    """

    aval: Any
    axes: tuple[Labels, ...]
    fills: tuple[Fill, ...]
    known: np.ndarray | None = None
    leaves: frozenset[int] = frozenset()
    data: bool = False
    layers: bool = False
    total: Total | None = None
    bound: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the traced array."""
        return self.aval.shape

    @property
    def weights(self) -> frozenset[int]:
        """The leaves, if the value depends on leaves alone."""
        return frozenset() if self.data else self.leaves


def is_activation(value: Value) -> bool:
    """Whether a value is computed in the network rather than stored (learned queries included)."""
    return value.data or value.layers


def is_constant(value: Value) -> bool:
    """Whether neither params nor inputs go into a value, so that it is kept whole and cut where it is used."""
    return not (value.leaves or value.data or value.bound)


def sign(fill: Fill) -> str:
    """The fill as a class of numbers instead of one number."""
    if isinstance(fill, str):
        return JUNK if fill == LIVE else fill
    return POSITIVE if fill > 0 else NONNEGATIVE if fill == 0 else JUNK


def join(fills: Sequence[Fill]) -> Fill:
    """What is known of a position that holds one of several fills."""
    if all(fill == fills[0] for fill in fills):
        return fills[0]
    return max((sign(fill) for fill in fills), key=_LESS_KNOWN.index)


def is_number(fill: Fill) -> TypeGuard[float]:
    """Whether masked positions hold a number that is known."""
    return not isinstance(fill, str)


def is_zero(fill: Fill) -> bool:
    """Whether masked positions hold exactly 0."""
    return is_number(fill) and fill == 0


def constant_fill(known: np.ndarray | None) -> Fill:
    """Fill of a constant array along any of its axes."""
    if known is None or known.size == 0 or known.dtype == object:
        return LIVE
    first = known.flat[0]
    if known.size == 1 and known.dtype.kind in "fiub":
        return float(first) if first == first else LIVE  # not so for NaN
    if not np.isreal(first) or not (known == first).all():
        return LIVE
    return float(first)


def origin(ins: list[Value]) -> dict[str, Any]:
    """Fields of a result that follow from where its operands come from."""
    if len(ins) == 1:
        one = ins[0]
        return {"leaves": one.leaves, "data": one.data, "layers": one.layers, "bound": one.bound}
    return {
        "leaves": frozenset().union(*(v.leaves for v in ins)),
        "data": any(v.data for v in ins),
        "layers": any(v.layers for v in ins),
        "bound": any(v.bound for v in ins),
    }
