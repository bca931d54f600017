"""Trace a network once more, a few channels smaller, and see which constants followed.

Only what the doubted constants are computed from is walked. That is next to nothing, since most are numbers that stand
in the program.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from prune_jax.pruning.jaxpr.labels import Ledger
from prune_jax.pruning.jaxpr.values import Value
from prune_jax.pruning.jaxpr.walk import Body, Env, Node, constants_of, live, value_of, visit


class Bare(NamedTuple):
    """A traced program and values of its operands that say nothing of channels."""

    ledger: Ledger
    closed: ClosedJaxpr
    ins: list[Value]


def _pairs(before: Body, after: Body) -> list[tuple[Node, Node]] | None:
    """Nodes of two walks of the same program; None where they differ in structure."""
    if len(before.nodes) != len(after.nodes):
        return None
    found = []
    for a, b in zip(before.nodes, after.nodes, strict=True):
        if a.eqn.primitive.name != b.eqn.primitive.name or len(a.bodies) != len(b.bodies):
            return None
        found.append((a, b))
        for x, y in zip(a.bodies, b.bodies, strict=True):
            inner = _pairs(x, y)
            if inner is None:
                return None
            found += inner
    return found


def _number(value: Value) -> float | None:
    known = value.known
    return None if known is None or known.size == 0 else float(np.asarray(known).flat[0])


def _holds(body: Body, wanted: Collection[int]) -> bool:
    """Whether any wanted doubt is about an equation of a body or of one inside of it."""
    return any(
        any(number in wanted for number in node.doubts) or any(_holds(inner, wanted) for inner in node.bodies)
        for node in body.nodes
    )


def _needed(eqns: list[Any], atoms: Iterable[Any], whole: Collection[int]) -> list[int]:
    """Numbers of the equations that some operands are computed from, and of those that are wanted whole."""
    used = {atom for atom in atoms if not isinstance(atom, Literal)}
    found = []
    for number in range(len(eqns) - 1, -1, -1):
        if number in whole or any(var in used for var in eqns[number].outvars):
            used.update(var for var in eqns[number].invars if not isinstance(var, Literal))
            found.append(number)
    return found[::-1]


def constants_after(
    before: Body, retrace: Callable[[], Bare], ledger: Ledger, wanted: Collection[int]
) -> dict[int, float]:
    """New values of the wanted constants; none at all where the smaller network can't be traced."""
    try:
        return _constants(before, retrace(), ledger, wanted)
    except Exception:  # whatever the network's own code raises at sizes that it doesn't expect
        return {}


def _constants(before: Body, after: Bare, ledger: Ledger, wanted: Collection[int]) -> dict[int, float]:
    eqns = live(after.closed.jaxpr)
    if [node.eqn.primitive.name for node in before.nodes] != [eqn.primitive.name for eqn in eqns]:
        return {}
    atoms = {
        number: eqn.invars[ledger.doubts[number].operand]
        for node, eqn in zip(before.nodes, eqns, strict=True)
        for number in node.doubts
        if number in wanted
    }
    whole = {k for k, node in enumerate(before.nodes) if any(_holds(body, wanted) for body in node.bodies)}
    env: Env = dict(zip(after.closed.jaxpr.invars, after.ins, strict=True))
    env.update(zip(after.closed.jaxpr.constvars, constants_of(after.ledger, after.closed), strict=True))
    needed = _needed(eqns, atoms.values(), whole)
    nodes = dict(zip(needed, visit(after.ledger, [eqns[k] for k in needed], env), strict=True))
    values = {number: value_of(after.ledger, env, atom) for number, atom in atoms.items()}
    for k in whole:
        inner = _inside(before.nodes[k], nodes[k], ledger, wanted)
        if inner is None:
            return {}
        values |= inner
    return {n: number for n, value in values.items() if (number := _number(value)) is not None}


def _inside(before: Node, after: Node, ledger: Ledger, wanted: Collection[int]) -> dict[int, Value] | None:
    """Values of the wanted constants in the bodies of an equation; None where these differ in structure."""
    if len(before.bodies) != len(after.bodies):
        return None
    found: dict[int, Value] = {}
    for x, y in zip(before.bodies, after.bodies, strict=True):
        pairs = _pairs(x, y)
        if pairs is None:
            return None
        for a, b in pairs:
            found |= {n: b.ins[ledger.doubts[n].operand] for n in a.doubts if n in wanted}
    return found
