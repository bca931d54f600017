"""Where a leaf's weights are when they reach an equation: followed through moves of whole arrays."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import Literal

from prune_jax.pruning.gathering.tapped import is_open
from prune_jax.pruning.inputs.grid import Grid, Positions, broadcast, copied, counted
from prune_jax.pruning.jaxpr.rules_control import scan_counts
from prune_jax.pruning.jaxpr.rules_elementwise import NAMES as ELEMENTWISE
from prune_jax.pruning.jaxpr.rules_elementwise import PLACED
from prune_jax.pruning.jaxpr.walk import Body, Node


class Where(NamedTuple):
    """An array as positions of a leaf.

    Attributes:
      leaf: the leaf's number.
      at: the leaf's flat index at every position of the array. In a scan, that of its first step. It is a ``Grid`` as
        long as it can be one.
      steps: what every further step of a scan adds to ``at``, (steps,).
      scan: the id of that scan's node, or None.
    """

    leaf: int
    at: Positions
    steps: np.ndarray | None = None
    scan: int | None = None


Found = list[Where | None]
Visit = Callable[[Node, Found], None]


def _broadcast(at: Positions, eqn: Any) -> Positions:
    shape = eqn.outvars[0].aval.shape
    lies = dict(zip(eqn.params["broadcast_dimensions"], at.shape, strict=True))
    return broadcast(at.reshape([lies.get(k, 1) for k in range(len(shape))]), shape)


def _flip(at: Positions, eqn: Any) -> Positions:
    turned = eqn.params["dimensions"]
    return at[tuple(slice(None, None, -1 if k in turned else 1) for k in range(at.ndim))]


def _slice(at: Positions, eqn: Any) -> Positions:
    p = eqn.params
    strides = p["strides"] or (1,) * at.ndim
    return at[tuple(map(slice, p["start_indices"], p["limit_indices"], strides))]


MOVES: dict[str, Callable[[Positions, Any], Positions]] = {
    "transpose": lambda at, eqn: at.transpose(eqn.params["permutation"]),
    "reshape": lambda at, eqn: at.reshape(eqn.outvars[0].aval.shape),
    "squeeze": lambda at, eqn: at.reshape(eqn.outvars[0].aval.shape),
    "rev": _flip,
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
}


def start(leaves: Sequence[tuple[int, ...]]) -> Found:
    """The leaves as they are, from their shapes."""
    return [Where(number, counted(shape)) for number, shape in enumerate(leaves)]


def follow(body: Body, given: Found, visit: Visit) -> Found:
    """Call ``visit(node, where its operands are)`` at every equation, inner programs included.

    Args:
      body: a walked program.
      given: where its operands are.
      visit: the function.

    Returns:
      Where the program's results are.
    """
    env = dict(zip(body.jaxpr.invars, given, strict=True))

    def read(atom: Any) -> Where | None:
        return None if isinstance(atom, Literal) else env.get(atom)

    for node in body.nodes:
        ins = [read(atom) for atom in node.eqn.invars]
        if is_open(node):
            outs = _inside(node, ins, visit)
        else:
            visit(node, ins)
            outs = _moved(node, ins)
        env.update(zip(node.eqn.outvars, outs, strict=False))
    return [read(atom) for atom in body.jaxpr.outvars]


def _inside(node: Node, ins: Found, visit: Visit) -> Found:
    (inner,) = node.bodies
    if node.eqn.primitive.name != "scan":
        return follow(inner, ins, visit)
    n, carried = scan_counts(node.eqn)
    scanned = [_sliced(node, where) for where in ins[n + carried :]]
    follow(inner, [*ins[:n], *[None] * carried, *scanned], visit)
    return [None] * len(node.eqn.outvars)


def _sliced(node: Node, where: Where | None) -> Where | None:
    """A scanned array as its first step sees it. In a scan inside a scan it is lost."""
    if where is None or where.scan is not None:
        return None
    if isinstance(where.at, Grid):
        along = where.at.vectors[0]
        return Where(where.leaf, where.at[0], along - along[0], id(node))
    first = where.at.reshape(len(where.at), -1)
    steps = first[:, 0] - first[0, 0]
    if not np.array_equal(first, first[0] + steps[:, None]):
        return None
    return Where(where.leaf, where.at[0], steps, id(node))


def _moved(node: Node, ins: Found) -> Found:
    """Where the results are. None of what is computed from data, or isn't one leaf moved or scaled."""
    eqn, name = node.eqn, node.eqn.primitive.name
    outs: Found = [None] * len(eqn.outvars)
    if name in PLACED:
        outs = list(ins) if len(ins) == len(outs) else outs
    elif name in MOVES and ins[0] is not None:
        outs = [ins[0]._replace(at=MOVES[name](ins[0].at, eqn))]
    elif name in ELEMENTWISE:
        outs = [_one(ins, eqn.outvars[0].aval.shape)]
    return [None if value.data else where for where, value in zip(outs, node.outs, strict=False)]


def _one(ins: Found, shape: tuple[int, ...]) -> Where | None:
    """The one operand that is a leaf of this shape. Of a kernel and its scales it is the kernel."""
    fits = [where for where in ins if where is not None and where.at.shape == shape]
    whole = [where for where in fits if not any(copied(where.at, k) for k in range(where.at.ndim))]
    best = whole or fits
    return best[0] if len(best) == 1 else None
