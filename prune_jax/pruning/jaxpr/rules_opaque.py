"""Primitives whose result hangs on the whole shape: random draws, transforms, foreign calls."""

from typing import Any

from prune_jax.pruning.jaxpr.labels import Ledger
from prune_jax.pruning.jaxpr.rules_linear import free_fill
from prune_jax.pruning.jaxpr.values import LIVE, WILD, Value, origin


def bits(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """A random draw is a table of numbers like a constant one: drawn whole, then cut with the channels.

    A draw of another shape would be another draw, so a small network draws at the dense shape (``slimming.resize``).
    """
    for value in ins:
        for labels in value.axes:
            ledger.freeze(labels, "keys of random numbers")
    aval = eqn.outvars[0].aval
    axes = tuple(ledger.fixed(1, "single index") if n == 1 else ledger.fresh(n) for n in aval.shape)
    return [Value(aval, axes, (LIVE,) * len(axes), **origin(ins))]


def drawn(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """A key, or a draw whose arguments are arrays, changes with the shape, so none of its axes can be cut."""
    words = "random numbers change with the shape that is drawn (trace the network as in evaluation)"
    for value in ins:
        for labels in value.axes:
            ledger.freeze(labels, words)
    outs = []
    for var in eqn.outvars:
        axes = tuple(ledger.fixed(size, words) for size in var.aval.shape)
        outs.append(Value(var.aval, axes, (LIVE,) * len(axes), **origin(ins)))
    return outs


def silent(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """A debugging aid without results."""
    return []


def fft(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """The transformed axes are fixed, the map is linear along the others."""
    value, aval = ins[0], eqn.outvars[0].aval
    first = len(value.shape) - len(eqn.params["fft_lengths"])
    for labels in value.axes[first:]:
        ledger.freeze(labels, "transformed along this axis")
    axes = value.axes[:first] + tuple(ledger.fixed(n, "frequencies") for n in aval.shape[first:])
    fills = tuple(free_fill(fill) for fill in value.fills[:first]) + (LIVE,) * (len(axes) - first)
    return [Value(aval, axes, fills, **origin(ins))]


def fold(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """A reduction by a function of the user's own: reduced axes are fixed, others pass."""
    operands = ins[: len(eqn.outvars)]
    gone = set(eqn.params["dimensions"])
    out = []
    for value in operands[1:]:
        for a, b in zip(operands[0].axes, value.axes, strict=True):
            ledger.couple(a, b)
    for var, value in zip(eqn.outvars, operands, strict=True):
        for k in gone:
            ledger.freeze(value.axes[k], "reduced by a function of the network's own")
        stay = tuple(labels for k, labels in enumerate(value.axes) if k not in gone)
        out.append(Value(var.aval, stay, (WILD,) * len(stay), **origin(ins)))
    return out


CORE = {"tridiagonal_solve": 1, "lu_pivots_to_permutation": 1}  # axes of a matrix as stored. Otherwise 2


def algebra(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """A number of the result hangs on a whole matrix, so its axes are fixed. Those of a batch of matrices pass."""
    batch = len(ins[0].shape) - CORE.get(eqn.primitive.name, 2)
    axes = list(ins[0].axes[:batch])
    for value in ins:
        for labels in value.axes[batch:]:
            ledger.freeze(labels, "linear algebra needs the whole matrix")
        axes = [ledger.couple(a, b) for a, b in zip(axes, value.axes[:batch], strict=True)]
    outs = []
    for var in eqn.outvars:
        matrix = (ledger.fixed(n, "an axis of a matrix") for n in var.aval.shape[batch:])
        outs.append(Value(var.aval, (*axes, *matrix), (WILD,) * len(var.aval.shape), **origin(ins)))
    return outs


def whole(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Of constants alone: computed at the dense size, then cut like a constant table (``slimming.twin``)."""
    for value in ins:
        for labels in value.axes:
            ledger.freeze(labels, "a table is computed from all of these numbers")
    outs = []
    for var in eqn.outvars:
        shape = getattr(var.aval, "shape", ())
        axes = tuple(ledger.fixed(1, "single index") if n == 1 else ledger.fresh(n) for n in shape)
        outs.append(Value(var.aval, axes, (LIVE,) * len(axes), **origin(ins)))
    return outs


MATRICES = (
    "cholesky",
    "cholesky_update",
    "eig",
    "eigh",
    "geqp3",
    "geqrf",
    "hessenberg",
    "householder_product",
    "lu",
    "lu_pivots_to_permutation",
    "ormqr",
    "qr",
    "schur",
    "svd",
    "symmetric_product",
    "triangular_solve",
    "tridiagonal",
    "tridiagonal_solve",
)
WHOLE = frozenset((*MATRICES, "fft", "sort", "top_k", "approx_top_k"))  # and whatever has no rule
DRAWS = (
    "random_wrap",
    "random_unwrap",
    "random_seed",
    "random_split",
    "random_fold_in",
    "random_clone",
    "random_gamma",
    "threefry2x32",
    "threefry4x32",
    "philox2x32",
    "philox4x32",
    "rng_bit_generator",
    "rng_uniform",
)
RULES = {
    "random_bits": bits,
    **dict.fromkeys(DRAWS, drawn),
    **dict.fromkeys(MATRICES, algebra),
    "debug_callback": silent,
    "dce_sink": silent,
    "inspect_sharding": silent,
    "debug_print": silent,
    "fft": fft,
    "reduce": fold,
}
