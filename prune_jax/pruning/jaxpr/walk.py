"""Walk a jaxpr with labels instead of numbers."""

from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from prune_jax.pruning.jaxpr.labels import Ledger, is_fixed
from prune_jax.pruning.jaxpr.primitives import FROZEN
from prune_jax.pruning.jaxpr.rules import RULES
from prune_jax.pruning.jaxpr.rules_control import BINDING, CONTROL, CUSTOM
from prune_jax.pruning.jaxpr.rules_opaque import WHOLE, whole
from prune_jax.pruning.jaxpr.values import KNOWN_LIMIT, WILD, Value, constant_fill, is_constant, origin


class Node(NamedTuple):
    """One equation with what was learnt about its operands and results."""

    eqn: Any
    ins: list[Value]
    outs: list[Value]
    doubts: range
    bodies: tuple["Body", ...]


class Body(NamedTuple):
    """A jaxpr that was walked: its nodes (without dead equations) and its operands' values."""

    jaxpr: Jaxpr
    consts: list[Any]
    const_values: list[Value]
    ins: list[Value]
    outs: list[Value]
    nodes: list[Node]


def constant(ledger: Ledger, number: Any, aval: Any) -> Value:
    """A constant array: each index of each axis could be cut, and nothing ties it yet."""
    small = aval.size <= KNOWN_LIMIT and getattr(aval.dtype, "kind", "V") in "fiub"
    known = np.asarray(number) if small else None
    axes = tuple(ledger.fixed(1, "single index") if n == 1 else ledger.fresh(n) for n in aval.shape)
    return Value(aval, axes, (constant_fill(known),) * len(axes), known)


def _unknown(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """No rule: nothing that it touches may be cut."""
    words = FROZEN.get(eqn.primitive.name, "there is no rule for this primitive")
    for value in ins:
        for labels in value.axes:
            ledger.freeze(labels, words)
    outs = []
    for var in eqn.outvars:
        axes = tuple(ledger.fixed(size, words) for size in getattr(var.aval, "shape", ()))
        outs.append(Value(var.aval, axes, (WILD,) * len(axes), **origin(ins)))
    return outs


def live(jaxpr: Jaxpr) -> list[Any]:
    """Equations whose results are used, or that have effects, in order."""
    used = {var for var in jaxpr.outvars if not isinstance(var, Literal)}
    found = []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or any(var in used for var in eqn.outvars):
            used.update(var for var in eqn.invars if not isinstance(var, Literal))
            found.append(eqn)
    return found[::-1]


def _copied(ledger: Ledger, value: Value) -> Value:
    """A constant as one of its uses sees it: what is cut there says nothing of its other uses."""
    if not is_constant(value) or all(map(is_fixed, value.axes)):
        return value
    axes = tuple(labels if is_fixed(labels) else ledger.fresh(len(labels)) for labels in value.axes)
    return value._replace(axes=axes, total=None)


def _bound(values: list[Value]) -> list[Value]:
    return [value._replace(bound=True) if is_constant(value) else value for value in values]


def _step(ledger: Ledger, eqn: Any, ins: list[Value]) -> Node:
    ledger.eqn, first = eqn, len(ledger.doubts)
    name, table = eqn.primitive.name, all(map(is_constant, ins))
    shared = not table and name in (*BINDING, *CUSTOM)  # by all equations of its bodies
    if shared or not (table or name in CONTROL):
        ins = [_copied(ledger, value) for value in ins]
    if name in CONTROL:
        outer, ledger.callers = ledger.callers, (eqn, *ledger.callers)
        outs, bodies = CONTROL[name](ledger, eqn, _bound(ins) if shared else ins, walk)
        outs = _bound(outs) if shared and name in BINDING else outs
        ledger.callers = outer
        return Node(eqn, ins, outs, range(0), tuple(bodies))
    whole_table = table and not eqn.effects and (name in WHOLE or name not in RULES)
    rule = whole if whole_table else RULES.get(name, _unknown)
    outs = rule(ledger, eqn, ins)
    return Node(eqn, ins, outs, range(first, len(ledger.doubts)), ())


Env = dict[Any, Value]


def value_of(ledger: Ledger, env: Env, atom: Any) -> Value:
    """What is known of an operand."""
    return constant(ledger, atom.val, atom.aval) if isinstance(atom, Literal) else env[atom]


def visit(ledger: Ledger, eqns: list[Any], env: Env) -> list[Node]:
    """Interpret equations in order. Their results go to ``env``."""
    nodes = []
    for eqn in eqns:
        node = _step(ledger, eqn, [value_of(ledger, env, atom) for atom in eqn.invars])
        env.update(zip(eqn.outvars, node.outs, strict=bool(node.outs)))
        nodes.append(node)
    return nodes


def constants_of(ledger: Ledger, closed: ClosedJaxpr) -> list[Value]:
    """Values of the constants that a jaxpr brings along."""
    pairs = zip(closed.consts, closed.jaxpr.constvars, strict=True)
    return [constant(ledger, number, var.aval) for number, var in pairs]


def walk(ledger: Ledger, closed: ClosedJaxpr, ins: list[Value], consts: list[Value] | None = None) -> Body:
    """Interpret a jaxpr on abstract values. Couplings go to the ledger."""
    jaxpr = closed.jaxpr
    consts = constants_of(ledger, closed) if consts is None else consts
    env: Env = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, ins, strict=True))
    nodes = visit(ledger, live(jaxpr), env)
    outs = [_copied(ledger, value_of(ledger, env, atom)) for atom in jaxpr.outvars]
    return Body(jaxpr, list(closed.consts), consts, ins, outs, nodes)
