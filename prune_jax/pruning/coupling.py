"""Which channels live or die together, derived from the jaxpr of any apply function.

Every index of every axis of every params leaf gets a label; the jaxpr is interpreted on labels
instead of numbers (``walk``, one rule per primitive in ``rules``), and each primitive notes which
labels it ties together. The connected components are the channels; channels that occur in the
same leaf axes form one ``Group`` (a channel may have several positions on an axis). Whatever a
rule can't prove freezes what it touches, with a reason.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from prune_jax.pruning.jaxpr.gains import with_gains
from prune_jax.pruning.jaxpr.groups import Group, Slice, Slot, build
from prune_jax.pruning.jaxpr.labels import Classes, Ledger
from prune_jax.pruning.jaxpr.reading import Reading, read
from prune_jax.pruning.jaxpr.solve import solve
from prune_jax.pruning.jaxpr.walk import Body
from prune_jax.pruning.settle import settle_sizes

__all__ = ["Analysis", "Group", "Slice", "analyse", "find_groups"]


class Analysis(NamedTuple):
    """Everything that one walk has learnt; ``find_groups`` shows its groups alone."""

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

    ``params`` is any pytree of arrays or ``jax.ShapeDtypeStruct`` (batch statistics included), and
    so are the inputs. Nothing is computed. What reaches an output is frozen, but for new batch
    statistics that a network returns in training mode: they are cut like the old ones. Random draws
    (dropout) are cut with the channels that they meet. With 'inputs' or 'outputs' in ``free`` the last
    axis of float inputs or outputs may lose channels too. Pass the same ``free`` to ``slim``.

    Groups come in the order in which the network first makes them. Frozen ones are listed too, with
    the reason. A group is named after the layer that makes it, ``blocks/3/conv1``. Where that is
    ambiguous, it is named after leaf and axis, ``attention/query/kernel:1``, or after positions,
    ``conv[0:32]``. Where heads and their dimensions share an axis, pairs of dimensions inside of the heads
    of ``q`` are ``q:inner``, and a position stays where its head and its pair stay. They are cut only where a
    pattern says ``:inner``. Channels that no weight
    makes are named after their first reader, ``stem/kernel:2``.
    Raises TypeError where ``apply`` can't be traced.
    """
    return analyse(apply, params, *inputs, free=free).groups
