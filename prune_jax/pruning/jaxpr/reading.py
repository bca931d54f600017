"""Trace an apply function and walk it with labels on every axis of every params leaf."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.errors import (
    ConcretizationTypeError,
    NonConcreteBooleanIndexError,
    TracerArrayConversionError,
    TracerIntegerConversionError,
)

from prune_jax.pruning.jaxpr.groups import Slot
from prune_jax.pruning.jaxpr.labels import Ledger
from prune_jax.pruning.jaxpr.values import LIVE, Value
from prune_jax.pruning.jaxpr.walk import Body, walk

UNTRACEABLE = (
    ConcretizationTypeError,
    NonConcreteBooleanIndexError,
    TracerArrayConversionError,
    TracerIntegerConversionError,
)


class Reading(NamedTuple):
    """A walked network: what its primitives tie together, its program, its leaf axes."""

    ledger: Ledger
    body: Body
    slots: list[Slot]
    out_tree: Any


def leaf_paths(tree: Any) -> list[tuple[str, Any]]:
    """Leaves with their key paths joined by "/"."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in flat]


def _trace(apply: Callable, params: Any, inputs: tuple) -> tuple[Any, Any]:
    try:
        return jax.make_jaxpr(apply, return_shape=True)(params, *inputs)
    except UNTRACEABLE as error:
        first = str(error).strip().splitlines()[0]
        raise TypeError(
            "apply can't be traced, because its Python code depends on the numbers in its arguments; "
            f"use jax.lax.cond or jax.numpy.where there, or bind the argument as a static one: {first}"
        ) from error


def _leaf(ledger: Ledger, aval: Any, number: int) -> Value:
    axes = tuple(ledger.fresh(n) if n > 1 else ledger.fixed(n, "single index") for n in aval.shape)
    return Value(aval, axes, (0.0,) * len(axes), leaves=frozenset({number}))


def _input(ledger: Ledger, aval: Any) -> Value:
    axes = tuple(ledger.fixed(n, "network input") for n in aval.shape)
    return Value(aval, axes, (LIVE,) * len(axes), data=True)


def read(apply: Callable, params: Any, inputs: tuple) -> Reading:
    """Walk ``apply(params, *inputs)``; what reaches an output is frozen."""
    closed, out_shape = _trace(apply, params, inputs)
    ledger, paths = Ledger(), leaf_paths(params)
    avals = [var.aval for var in closed.jaxpr.invars]
    leaves = [_leaf(ledger, aval, n) for n, aval in enumerate(avals[: len(paths)])]
    body = walk(ledger, closed, leaves + [_input(ledger, aval) for aval in avals[len(paths) :]])
    ledger.eqn = None
    for out in body.outs:
        for labels in out.axes:
            ledger.freeze(labels, "network output")
    slots = [
        Slot(path, axis, labels, len(value.axes), number)
        for number, ((path, _), value) in enumerate(zip(paths, leaves, strict=True))
        for axis, labels in enumerate(value.axes)
        if len(labels) > 1
    ]
    return Reading(ledger, body, slots, jax.tree_util.tree_structure(out_shape))
