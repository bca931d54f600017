"""Every regulariser by the name that a config gives it. The contract test runs over this table."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.regularizers import (
    gram,
    group_lasso,
    group_norm,
    growing,
    orthogonality,
    slimming,
)
from prune_jax.pruning.regularizers.channels import counts_of
from prune_jax.pruning.regularizers.penalty import Penalty, is_done, regularized

__all__ = [
    "REGULARIZERS",
    "Penalty",
    "Regularizer",
    "arguments_of",
    "is_done",
    "penalty_of",
    "regularized",
]


class Regularizer(NamedTuple):
    """How a penalty is made, and what it asks for.

    Attributes:
      make: ``make(groups, **arguments)`` -> ``Penalty``. Where it pushes chosen channels, ``make(groups, gone,
        **arguments)`` with how many of each group are to go. Its keyword arguments, with their defaults, are its own.
      chooses: whether it pushes chosen channels.
      neutral: arguments under which training is as without it.
      channels: whether it looks at coupled channels. Else it looks at kernels, whatever the groups.
      stops: whether it has a rule that ends it.
      unfit: why these groups have nothing that it could act on, in words, or ''.
      macs: multiply-accumulates that a step takes beside the network's passes: a function of a pushed group and of
        the shape of its producer.
    """

    make: Callable[..., Penalty]
    chooses: bool = False
    neutral: Mapping[str, float] = MappingProxyType({"strength": 0.0})
    channels: bool = True
    stops: bool = False
    unfit: Callable[[Sequence[Group]], str] | None = None
    macs: Callable[[Group, Sequence[int]], int] | None = None


_NO_GROWTH = MappingProxyType({"step": 0.0})

REGULARIZERS: Mapping[str, Regularizer] = MappingProxyType(
    {
        "greg1": Regularizer(growing.greg1, chooses=True, neutral=_NO_GROWTH, stops=True),
        "greg2": Regularizer(
            growing.greg2,
            chooses=True,
            neutral=MappingProxyType({"pick_step": 0.0, "step": 0.0, "recover": 0.0}),
            stops=True,
        ),
        "group_lasso": Regularizer(group_lasso.group_lasso),
        "group_lasso_proximal": Regularizer(group_lasso.group_lasso_proximal),
        "group_norm": Regularizer(group_norm.group_norm),
        "slimming": Regularizer(slimming.slimming, unfit=slimming.without_scales),
        "tpp": Regularizer(gram.tpp, chooses=True, neutral=_NO_GROWTH, stops=True, macs=gram.gram_macs),
        "kernel_orthogonality": Regularizer(orthogonality.kernel_orthogonality, channels=False),
        "orthogonal_convolution": Regularizer(orthogonality.orthogonal_convolution, channels=False),
    }
)


def penalty_of(
    name: str,
    groups: Sequence[Group],
    *,
    ratio: float | Mapping[str, float] | None = None,
    **arguments: Any,
) -> Penalty:
    """A penalty of the table, for groups that ``find_groups`` found.

    Args:
      name: of ``REGULARIZERS``.
      groups: all of a network's. Frozen ones are left alone.
      ratio: the fraction of channels that is to go, of every group or by the group's name, for penalties that push
        chosen channels ('greg1', 'greg2', 'tpp').
      arguments: the regulariser's own, see its function.

    Returns:
      The penalty, to be given to ``penalty.regularized``.

    Raises:
      KeyError: an unknown name.
      ValueError: no ratio where one is needed, a ratio where none is, a number outside its range, no group to act on.
    """
    found = REGULARIZERS[name]
    free = [group for group in groups if group.frozen is None]
    if found.unfit is not None and (why := found.unfit(free)):
        raise ValueError(f"regularizer {name!r} has nothing to act on in these groups: {why}")
    if not found.chooses:
        if ratio is not None:
            raise ValueError(f"regularizer {name!r} pushes no chosen channels; leave ratio out")
        return found.make(free, **arguments)
    if ratio is None:
        raise ValueError(f"regularizer {name!r} pushes the channels that are to go: say how many by ratio=")
    gone = counts_of(free, ratio)
    if not any(gone.values()):
        raise ValueError(
            f"regularizer {name!r} has no channel to push: ratio is {ratio}, groups are {len(free)}"
        )
    return found.make(free, gone, **arguments)


def arguments_of(make: Callable[..., Any]) -> dict[str, Any]:
    """The keyword arguments of a regulariser's function, with their defaults.

    >>> arguments_of(REGULARIZERS["group_norm"].make)
    {'strength': 0.0001, 'alpha': 16.0}
    """
    parameters = inspect.signature(make).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
