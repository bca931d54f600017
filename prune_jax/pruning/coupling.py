"""Which channels live or die together, derived from the jaxpr of any apply function.

Every index of every axis of every params leaf gets a label. The jaxpr is interpreted on labels
instead of numbers (``walk``, one rule per primitive in ``rules``), and each primitive notes which
labels it ties together. The connected components are the channels. Channels that occur in the
same leaf axes form one ``Group`` (a channel may have several positions on an axis). Whatever a
rule can't prove freezes what it touches, with a reason.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from prune_jax.pruning.jaxpr.classes import Classes
from prune_jax.pruning.jaxpr.gains import with_gains
from prune_jax.pruning.jaxpr.groups import Group, Slice, Slot, build
from prune_jax.pruning.jaxpr.labels import Ledger
from prune_jax.pruning.jaxpr.reading import Reading, read
from prune_jax.pruning.jaxpr.solve import solve
from prune_jax.pruning.jaxpr.walk import Body
from prune_jax.pruning.settle import settle_sizes

__all__ = ["Analysis", "Group", "Slice", "analyse", "find_groups"]


class Analysis(NamedTuple):
    """Everything that one walk has learnt. ``find_groups`` shows its groups alone."""

    groups: tuple[Group, ...]
    slots: list[Slot]
    classes: Classes
    ledger: Ledger
    body: Body
    out_tree: Any


def analyse(apply: Callable, params: Any, *inputs: Any, free: Sequence[str] = ()) -> Analysis:
    """Trace ``apply(params, *inputs)`` on abstract values, walk it and solve its labels."""
    reading: Reading = read(apply, params, inputs, tuple(free))
    settle_sizes(reading, apply, params, inputs)
    solved = solve(reading.ledger)
    groups = with_gains(build(reading.ledger, reading.slots, solved), reading.body, reading.slots)
    return Analysis(groups, reading.slots, solved, reading.ledger, reading.body, reading.out_tree)


def find_groups(apply: Callable, params: Any, *inputs: Any, free: Sequence[str] = ()) -> tuple[Group, ...]:
    """Groups of channels that live or die together in ``apply(params, *inputs)``.

    The function is traced, and its jaxpr is read. Nothing is computed, so shapes are enough. What reaches an output is
    frozen. The exception is new batch statistics that a network returns in training mode: they are cut like the old
    ones. Random draws (dropout) are cut with the channels that they meet.

    Groups come in the order in which the network first makes them. Frozen ones are listed too. A group is named
    after the layer that makes it, ``blocks/3/conv1``. Where that is ambiguous, it is named after leaf and axis,
    ``attention/query/kernel:1``, or after positions, ``conv[0:32]``. Where heads and their dimensions share an axis,
    pairs of dimensions inside of the heads of ``q`` are ``q:inner``. A position stays where its head and its pair stay.
    Such pairs are cut only where a pattern says ``:inner``. Channels that no weight makes are named after their first
    reader, ``stem/kernel:2``.

    Args:
      apply: any traceable function of a pytree and inputs.
      params: any pytree of arrays or ``jax.ShapeDtypeStruct``, batch statistics included.
      *inputs: arrays or ``jax.ShapeDtypeStruct``, or pytrees of them.
      free: which ends of the network may lose channels, of 'inputs' and 'outputs'. It is the last axis of floats
        that may. Pass the same to ``slim``.

    Returns:
      One ``Group`` for each set of channels of one kind.

    Raises:
      TypeError: ``apply`` can't be traced.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"first": jnp.ones((4, 8)), "second": jnp.ones((8, 2))}
      >>> groups = find_groups(lambda p, x: x @ p["first"] @ p["second"], params, jnp.ones((1, 4)))
      >>> [(group.name, group.size, group.frozen) for group in groups]
      [('first:0', 4, 'network input'), ('first', 8, None), ('second', 2, 'network output')]
    """
    return analyse(apply, params, *inputs, free=free).groups
