"""Trace an apply function and walk it with labels on every axis of every params leaf."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.errors import (
    ConcretizationTypeError,
    NonConcreteBooleanIndexError,
    TracerArrayConversionError,
    TracerIntegerConversionError,
)

from prune_jax.pruning.jaxpr.groups import Slot
from prune_jax.pruning.jaxpr.labels import Ledger, Use
from prune_jax.pruning.jaxpr.second_trace import Bare
from prune_jax.pruning.jaxpr.values import LIVE, Value
from prune_jax.pruning.jaxpr.walk import Body, live, walk

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


def _input(ledger: Ledger, aval: Any, free: bool) -> Value:
    """An input. The channels of a free one, its last axis, may go."""
    axes = [ledger.fixed(n, "network input") for n in aval.shape]
    if free and _has_channels(aval):
        axes[-1] = ledger.fresh(aval.shape[-1])
        ledger.uses.append(Use(axes[-1], frozenset(), True))
    return Value(aval, tuple(axes), (LIVE,) * len(axes), data=True)


def _has_channels(aval: Any) -> bool:
    return len(aval.shape) > 1 and aval.shape[-1] > 1 and jnp.issubdtype(aval.dtype, jnp.inexact)


def _unused(jaxpr: Any, leaves: int) -> frozenset[int]:
    """Numbers of the params leaves that no equation on the way to a result reads."""
    read = {id(atom) for eqn in live(jaxpr) for atom in eqn.invars} | set(map(id, jaxpr.outvars))
    return frozenset(n for n, var in enumerate(jaxpr.invars[:leaves]) if id(var) not in read)


def _renewed(outputs: Any, params: Any) -> list[int | None]:
    """For each output the number of the params leaf whose new value it is, or None.

    In training mode a network returns its new batch statistics beside the logits. They are known by their path:
    it ends with a leaf's own path, or with that path without its first part, the collection. Of
    ``(logits, {"batch_stats": {"norm": {"mean": m}}})``, m takes the place of the leaf 'batch_stats/norm/mean'.
    Shape and dtype must agree, and only the outermost parts of the output's path, a tuple's place and the name of a
    collection, may be its own.
    """
    known: dict[tuple[str, ...], int | None] = {}
    named = leaf_paths(params)
    for first in (1, 0):  # whole paths last: they count where both fit
        for number, (path, _) in enumerate(named):
            tail = tuple(path.split("/"))[first:]
            if tail:
                known[tail] = None if first and tail in known else number
    return [_leaf_at(path, out, named, known) for path, out in leaf_paths(outputs)]


def _leaf_at(
    path: str, out: Any, named: list[tuple[str, Any]], known: dict[tuple[str, ...], int | None]
) -> int | None:
    parts = tuple(path.split("/"))
    for start in range(min(3, len(parts))):
        number = known.get(parts[start:])
        if number is not None:
            leaf = named[number][1]
            return number if (leaf.shape, leaf.dtype) == (out.shape, out.dtype) else None
    return None


def read_bare(apply: Callable, params: Any, inputs: tuple) -> Bare:
    """Trace ``apply(params, *inputs)`` to learn its constants alone: no axis has labels of its own."""
    closed, _ = _trace(apply, params, inputs)
    ledger, given = Ledger(), len(jax.tree.leaves(params))
    values = []
    for number, var in enumerate(closed.jaxpr.invars):
        axes = tuple(ledger.fixed(n, "constants alone are read") for n in var.aval.shape)
        if number < given:
            values.append(Value(var.aval, axes, (0.0,) * len(axes), leaves=frozenset({number})))
        else:
            values.append(Value(var.aval, axes, (LIVE,) * len(axes), data=True))
    return Bare(ledger, closed, values)


def read(apply: Callable, params: Any, inputs: tuple, free: tuple[str, ...] = ()) -> Reading:
    """Walk ``apply(params, *inputs)``. What reaches an output is frozen, new statistics aside (``_renewed``).

    With 'inputs' or 'outputs' in ``free``, the last axis of float inputs or outputs is free to lose channels.
    """
    closed, out_shape = _trace(apply, params, inputs)
    ledger, paths = Ledger(), leaf_paths(params)
    avals = [var.aval for var in closed.jaxpr.invars]
    leaves = [_leaf(ledger, aval, n) for n, aval in enumerate(avals[: len(paths)])]
    given = [_input(ledger, aval, "inputs" in free) for aval in avals[len(paths) :]]
    ledger.owned = ledger.count
    body = walk(ledger, closed, leaves + given)
    ledger.eqn, ledger.unused = None, _unused(closed.jaxpr, len(paths))
    for out, leaf in zip(body.outs, _renewed(out_shape, params), strict=True):
        for axis, labels in enumerate(out.axes):
            if leaf is None:
                if not ("outputs" in free and axis == len(out.axes) - 1 and _has_channels(out.aval)):
                    ledger.freeze(labels, "network output")
            else:  # cut like the leaf that it takes the place of
                ledger.couple(labels, leaves[leaf].axes[axis])
    slots = [
        Slot(path, axis, labels, len(value.axes), number)
        for number, ((path, _), value) in enumerate(zip(paths, leaves, strict=True))
        for axis, labels in enumerate(value.axes)
        if len(labels) > 1
    ]
    return Reading(ledger, body, slots, jax.tree_util.tree_structure(out_shape))
