"""Trace a network once more, one channel smaller, and see which constants followed."""

from collections.abc import Callable
from typing import Any

import numpy as np

from prune_jax.pruning.jaxpr.labels import Ledger
from prune_jax.pruning.jaxpr.walk import Body, Node


def _pairs(before: Body, after: Body) -> list[tuple[Node, Node]] | None:
    """Nodes of two walks of the same program. None where they differ in structure."""
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


def _number(node: Node, operand: int) -> float | None:
    known = node.ins[operand].known
    return None if known is None or known.size == 0 else float(np.asarray(known).flat[0])


def constants_after(before: Body, retrace: Callable[[], Body], ledger: Ledger) -> dict[int, float]:
    """New value of each doubted constant. None at all where the smaller network can't be traced."""
    try:
        after = retrace()
    except Exception:  # whatever the network's own code raises at sizes that it doesn't expect
        return {}
    pairs: Any = _pairs(before, after) or []
    found = {}
    for a, b in pairs:
        for number in a.doubts:
            value = _number(b, ledger.doubts[number].operand)
            if value is not None:
                found[number] = value
    return found
