"""Which channels live or die together, derived from the jaxpr of any apply function.

Every index of every axis of every params leaf gets a label; the jaxpr is interpreted on labels
instead of numbers (``walk``, one rule per primitive in ``rules``), and each primitive notes which
labels it ties together. The connected components are the channels; channels that occur equally
often in the same leaf axes form one ``Group``. Whatever a rule can't prove freezes what it
touches, with a reason.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.errors import (
    ConcretizationTypeError,
    NonConcreteBooleanIndexError,
    TracerArrayConversionError,
    TracerIntegerConversionError,
)

from prune_jax.pruning.groups import Group, Slice, Slot, build
from prune_jax.pruning.labels import Classes, Ledger
from prune_jax.pruning.solve import solve
from prune_jax.pruning.values import LIVE, Value
from prune_jax.pruning.walk import Body, walk

__all__ = ["Analysis", "Group", "Slice", "analyse", "find_groups", "leaf_paths"]


class Analysis(NamedTuple):
    """Everything that one walk has learnt; ``find_groups`` shows its groups alone."""

    groups: tuple[Group, ...]
    body: Body
    ledger: Ledger
    classes: Classes
    slots: list[Slot]
    out_tree: Any


def leaf_paths(tree: Any) -> list[tuple[str, Any]]:
    """Leaves with their key paths joined by "/"."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in flat]


def _trace(apply: Callable, params: Any, inputs: tuple) -> tuple[Any, Any]:
    try:
        return jax.make_jaxpr(apply, return_shape=True)(params, *inputs)
    except (
        ConcretizationTypeError,
        NonConcreteBooleanIndexError,
        TracerArrayConversionError,
        TracerIntegerConversionError,
    ) as error:
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


def analyse(apply: Callable, params: Any, *inputs: Any) -> Analysis:
    """Trace ``apply(params, *inputs)`` on abstract values, walk it and solve its labels."""
    closed, out_shape = _trace(apply, params, inputs)
    ledger = Ledger()
    paths = leaf_paths(params)
    avals = [var.aval for var in closed.jaxpr.invars]
    leaves = [_leaf(ledger, aval, n) for n, aval in enumerate(avals[: len(paths)])]
    ins = leaves + [_input(ledger, aval) for aval in avals[len(paths) :]]
    body = walk(ledger, closed, ins)
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
    solved = solve(ledger)
    out_tree = jax.tree_util.tree_structure(out_shape)
    return Analysis(build(ledger, slots, solved), body, ledger, solved, slots, out_tree)


def find_groups(apply: Callable, params: Any, *inputs: Any) -> tuple[Group, ...]:
    """Groups of channels that live or die together in ``apply(params, *inputs)``.

    ``params`` is any pytree of arrays or ``jax.ShapeDtypeStruct`` (batch statistics included), and
    so are the inputs; nothing is computed. Groups come in the order in which the network first
    makes them; frozen ones are listed too, with the reason. Raises TypeError where ``apply``
    can't be traced.
    """
    return analyse(apply, params, *inputs).groups
