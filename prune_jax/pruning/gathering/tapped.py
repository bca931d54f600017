"""Run a walked program on real numbers, and read sums of its arrays on the way.

The walk over the jaxpr knows what an equation's operands and results mean. A ``Probe`` stands at one
equation and says what to read there. Nothing is registered on layers.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Literal

from prune_jax.pruning.jaxpr.rules_control import CALLS, scan_counts
from prune_jax.pruning.jaxpr.walk import Body, Node
from prune_jax.pruning.slimming.resize import bind


class Probe(NamedTuple):
    """What to read at one equation.

    Attributes:
      name: whose sums these are. Sums of one name are added up.
      take: a function of the equation's operands and results that returns a pytree of arrays.
      scan: the id of a scan's node whose steps have sums of their own. Each array's first axis then
        counts step after step. None: the steps are added up.
    """

    name: str
    take: Callable[[list[Any], list[Any]], Any]
    scan: int | None = None


Probes = dict[int, list[Probe]]  # id of a node -> what to read there


def is_open(node: Node) -> bool:
    """Whether the equation's program can be run step by step here. Loops of unknown length can't."""
    return bool(node.bodies) and node.eqn.primitive.name in (*CALLS, "scan")


def run(body: Body, args: list[Any], probes: Probes) -> tuple[list[Any], dict[str, Any]]:
    """Results of a walked program on arrays, and the sums that the probes read.

    Args:
      body: the program. Every probe stands at a node of it or of a program that is open.
      args: its operands.
      probes: where to read what.

    Returns:
      The results, and probe's name -> pytree of arrays.
    """
    env: dict[Any, Any] = dict(zip(body.jaxpr.invars, args, strict=True))
    env.update(zip(body.jaxpr.constvars, body.consts, strict=True))
    sums: dict[str, Any] = {}

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else env[atom]

    for node in body.nodes:
        ins = [read(atom) for atom in node.eqn.invars]
        outs, more = _step(node, ins, probes)
        env.update(zip(node.eqn.outvars, outs, strict=False))
        sums = _added(sums, more)
        for probe in probes.get(id(node), ()):
            sums = _added(sums, {probe.name: probe.take(ins, outs)})
    return [read(atom) for atom in body.jaxpr.outvars], sums


def _added(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    both = {name: jax.tree.map(jnp.add, one[name], other[name]) for name in one if name in other}
    return {**one, **other, **both}


def _step(node: Node, ins: list[Any], probes: Probes) -> tuple[list[Any], dict[str, Any]]:
    inside = _inside(node.bodies[0], probes) if is_open(node) else []
    if not inside:
        return bind(node.eqn, ins), {}
    if node.eqn.primitive.name != "scan":
        return run(node.bodies[0], ins, probes)
    p = node.eqn.params
    n, carried = scan_counts(node.eqn)
    apart = {probe.name for probe in inside if probe.scan == id(node)}

    def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], Any]:
        outs, sums = run(node.bodies[0], [*ins[:n], *carry, *x], probes)
        return outs[:carried], (outs[carried:], sums)

    first, scanned = ins[n : n + carried], ins[n + carried :]
    carry, (ys, sums) = lax.scan(step, first, scanned, p["length"], p["reverse"], p["unroll"])
    return [*carry, *ys], {
        name: jax.tree.map(_joined if name in apart else lambda steps: steps.sum(0), tree)
        for name, tree in sums.items()
    }


def _joined(steps: Any) -> Any:
    """Of (steps, n, ...): (steps * n, ...)."""
    return steps.reshape(-1, *steps.shape[2:])


def _inside(body: Body, probes: Probes) -> list[Probe]:
    """All probes that stand in a program."""
    found = [probe for node in body.nodes for probe in probes.get(id(node), ())]
    return found + [probe for node in body.nodes for inner in node.bodies for probe in _inside(inner, probes)]
