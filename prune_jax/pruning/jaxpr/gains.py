"""Which leaves multiply a group's channels one by one, as the scale of a norm does: read off the program.

``(x - mean) * (rsqrt(var + eps) * scale) + bias`` says it without any name. ``scale`` comes to the data through
products and reshapes alone, so it is a gain. ``var`` goes through a sum and a root on its way, so it isn't one. What
is added to the data right after the product is the gain's shift.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jax.extend.core import Literal

from prune_jax.pruning.jaxpr.groups import Gain, Group, Slot
from prune_jax.pruning.jaxpr.walk import Body, Node

# Primitives that hand their first operand on, in another shape or dtype.
_SAME = frozenset({"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "copy"}) | {
    "convert_element_type"
}
Leaves = frozenset[int]
_NONE: Leaves = frozenset()


class _Mark(NamedTuple):
    """What an array is: a product of ``factors`` and numbers. Or data that was just ``scaled`` by leaves.

    ``lone``: the array is one leaf, as it is but for its shape.
    """

    factors: Leaves = _NONE
    scaled: Leaves = _NONE
    lone: bool = False


def with_gains(groups: Sequence[Group], body: Body, slots: Sequence[Slot]) -> tuple[Group, ...]:
    """The groups with their gains, in the order in which the program meets them.

    Args:
      groups: of the network that was walked.
      body: its walked program.
      slots: its leaf axes.
    """
    paths = {slot.leaf: slot.path for slot in slots}
    found: dict[int, int | None] = {}
    marks = {var: _Mark(frozenset({n}), lone=True) for n, var in enumerate(body.jaxpr.invars) if n in paths}
    _read(body, marks, found)
    makers = {group.producer.path for group in groups}
    gains = [
        Gain(paths[scale], None if shift is None else paths.get(shift, ""))
        for scale, shift in found.items()
        if paths[scale] not in makers
    ]

    def of(group: Group) -> tuple[Gain, ...]:
        members = {member.path for member in group.members}
        return tuple(gain for gain in gains if gain.scale in members)

    return tuple(group._replace(gains=of(group)) for group in groups)


def _read(body: Body, marks: dict[Any, _Mark], found: dict[int, int | None]) -> dict[Any, _Mark]:
    """Marks of all arrays of a program. Gains and their shifts go to ``found`` (-1: a shift that is no leaf)."""

    def mark(atom: Any) -> _Mark:
        return _Mark() if isinstance(atom, Literal) else marks.get(atom, _Mark())

    for node in body.nodes:
        ins = [mark(atom) for atom in node.eqn.invars]
        inner = node.bodies[0] if len(node.bodies) == 1 else None
        if inner is not None and len(inner.jaxpr.invars) == len(ins):
            within = _read(inner, dict(zip(inner.jaxpr.invars, ins, strict=True)), found)
            ends = [
                _Mark() if isinstance(v, Literal) else within.get(v, _Mark()) for v in inner.jaxpr.outvars
            ]
            marks.update(zip(node.eqn.outvars, ends, strict=False))
        elif node.outs:
            marks[node.eqn.outvars[0]] = _step(node, ins, found)
    return marks


def _step(node: Node, ins: list[_Mark], found: dict[int, int | None]) -> _Mark:
    name = node.eqn.primitive.name
    if name in _SAME:
        return ins[0]
    if name == "mul":
        for value, other in ((0, 1), (1, 0)):
            if node.ins[value].data and not node.ins[other].data:
                for leaf in ins[other].factors:
                    found.setdefault(leaf, None)
                return _Mark(scaled=ins[value].scaled | ins[other].factors)
        return _Mark(ins[0].factors | ins[1].factors, ins[0].scaled | ins[1].scaled)
    if name == "div" and not node.ins[1].data:
        return _Mark(ins[0].factors, ins[0].scaled)
    if name in ("add", "add_any"):
        _shift(node, ins, found)
    return _Mark()


def _shift(node: Node, ins: list[_Mark], found: dict[int, int | None]) -> None:
    for value, other in ((0, 1), (1, 0)):
        if node.ins[value].data and node.ins[other].weights:
            lone = next(iter(ins[other].factors)) if ins[other].lone else -1
            for leaf in ins[value].scaled:
                found[leaf] = lone if found[leaf] is None else found[leaf]
