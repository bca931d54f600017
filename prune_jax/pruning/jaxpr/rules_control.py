"""Primitives that hold jaxprs: calls, loops and branches, by recursion.

Each rule gets the walker as its last argument and returns the results and the walked bodies.
"""

from collections.abc import Callable
from typing import Any

from jax.extend.core import ClosedJaxpr

from prune_jax.pruning.jaxpr.labels import Ledger, is_fixed
from prune_jax.pruning.jaxpr.values import Value, join, origin

CALL_PARAMS = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call")
Outcome = tuple[list[Value], list[Any]]


def closed(jaxpr: Any) -> ClosedJaxpr:
    """A jaxpr parameter as a closed jaxpr."""
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def call(ledger: Ledger, eqn: Any, ins: list[Value], walk: Callable) -> Outcome:
    """The body stands in the equation's place."""
    inner = next(eqn.params[name] for name in CALL_PARAMS if name in eqn.params)
    body = walk(ledger, closed(inner), ins)
    return list(body.outs), [body]


def _couple_all(ledger: Ledger, a: list[Value], b: list[Value]) -> None:
    for one, two in zip(a, b, strict=True):
        for x, y in zip(one.axes, two.axes, strict=True):
            ledger.couple(x, y)


def _merged(a: Value, b: Value) -> Value:
    """A value that is one of two."""
    fills = tuple(join([x, y]) for x, y in zip(a.fills, b.fills, strict=True))
    axes = tuple(y if is_fixed(x) else x for x, y in zip(a.axes, b.axes, strict=True))
    return Value(a.aval, axes, fills, **origin([a, b]))


def _settle(carry: list[Value], step: Callable) -> tuple[list[Value], Any]:
    """Repeat a loop's body until what it knows of its carry no longer changes."""
    carry = [v._replace(known=None, total=None) for v in carry]
    while True:
        outs, extra = step(carry)
        merged = [_merged(a, b) for a, b in zip(carry, outs, strict=True)]
        same = all(
            (a.fills, a.leaves, a.data, a.layers) == (b.fills, b.leaves, b.data, b.layers)
            for a, b in zip(carry, merged, strict=True)
        )
        if same:
            return merged, extra
        carry = [
            a._replace(fills=b.fills, leaves=b.leaves, data=b.data, layers=b.layers)
            for a, b in zip(carry, merged, strict=True)
        ]


def _sliced(ledger: Ledger, value: Value, aval: Any) -> Value:
    """One step's part of a scanned operand. The scanned axis itself stays whole."""
    ledger.freeze(value.axes[0], "scanned over")
    return Value(aval, value.axes[1:], value.fills[1:], **origin([value]))


def _stacked(ledger: Ledger, value: Value, aval: Any) -> Value:
    steps = ledger.fixed(aval.shape[0], "scanned over")
    return Value(aval, (steps, *value.axes), ("live", *value.fills), **origin([value]))


def scan_counts(eqn: Any) -> tuple[int, int]:
    """How many of a scan's operands are constants, and how many its carry."""
    p = eqn.params
    if "num_consts" in p:
        return p["num_consts"], p["num_carry"]
    # jax 0.12 groups the operands in a tree instead: constants, carry, scanned.
    consts, carry, _ = p["ft_in"].update(range(len(eqn.invars))).unpack()
    return len(list(consts)), len(list(carry))


def scan(ledger: Ledger, eqn: Any, ins: list[Value], walk: Callable) -> Outcome:
    """Every step uses the same labels: layers stacked on the scanned axis are cut alike."""
    body, (n, carried) = eqn.params["jaxpr"], scan_counts(eqn)
    m = n + carried
    steps = [
        _sliced(ledger, v, var.aval) for v, var in zip(ins[m:], body.jaxpr.invars[m:], strict=True)
    ]  # fmt: skip

    def step(carry: list[Value]) -> tuple[list[Value], Any]:
        walked = walk(ledger, body, [*ins[:n], *carry, *steps])
        outs = walked.outs[:carried]
        ledger.eqn = eqn
        _couple_all(ledger, carry, outs)
        return outs, walked

    carry, walked = _settle(ins[n:m], step)
    ys = zip(walked.outs[carried:], eqn.outvars[carried:], strict=True)
    return [*carry, *(_stacked(ledger, v, var.aval) for v, var in ys)], [walked]


def while_(ledger: Ledger, eqn: Any, ins: list[Value], walk: Callable) -> Outcome:
    """The carry keeps its labels through every round."""
    p = eqn.params
    n, m = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]

    def step(carry: list[Value]) -> tuple[list[Value], Any]:
        test = walk(ledger, p["cond_jaxpr"], [*ins[:n], *carry])
        body = walk(ledger, p["body_jaxpr"], [*ins[n:m], *carry])
        ledger.eqn = eqn
        _couple_all(ledger, carry, body.outs)
        return body.outs, [test, body]

    return _settle(ins[m:], step)


def cond(ledger: Ledger, eqn: Any, ins: list[Value], walk: Callable) -> Outcome:
    """All branches give the same channels."""
    bodies = [walk(ledger, branch, ins[1:]) for branch in eqn.params["branches"]]
    ledger.eqn = eqn
    outs = bodies[0].outs
    for body in bodies[1:]:
        _couple_all(ledger, outs, body.outs)
        outs = [_merged(a, b) for a, b in zip(outs, body.outs, strict=True)]
    return [v._replace(known=None, total=None) for v in outs], bodies


CALLS = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "call",
    "eval_jaxpr",
    "remat",
    "remat2",
    "checkpoint",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "custom_vmap_call",
    "custom_partitioning",
    "composite",
    "compute_on",
    "xla_metadata_call",
    "program_order",
)  # fmt: skip
CUSTOM = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
BINDING = ("scan", "while", "cond")  # their bodies see constants as they are cut outside
CONTROL: dict[str, Callable] = {**dict.fromkeys(CALLS, call), "scan": scan, "while": while_, "cond": cond}
