"""Every mask rule by the name that a config gives it. The contract test runs over this table."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from prune_jax.pruning.layouts.n_of_m import is_pattern
from prune_jax.pruning.mask_rules.exchange import rigl, set_rule
from prune_jax.pruning.mask_rules.magnitude import gmp, iht, sfp, static
from prune_jax.pruning.mask_rules.rule import MaskRule, MaskState, Turn
from prune_jax.pruning.mask_rules.step import Trained, begin, seen, take_step
from prune_jax.pruning.mask_rules.straight import sr_ste, ste

__all__ = [
    "RULES",
    "MaskRule",
    "MaskState",
    "Trained",
    "Turn",
    "begin",
    "refuse_misplaced",
    "seen",
    "take_step",
]


class RuleKind(NamedTuple):
    """A rule of the table.

    Attributes:
      make: the function that makes it, of ``steps`` and ``epoch`` (steps of training, and of one epoch) and others.
      granularities: those that it can keep, 'N:M' for every pattern.
    """

    make: Callable[..., MaskRule]
    granularities: tuple[str, ...]


_WEIGHTS = ("unstructured",)
RULES: Mapping[str, RuleKind] = MappingProxyType(
    {
        "static": RuleKind(static, _WEIGHTS),
        "gmp": RuleKind(gmp, ("unstructured", "filter")),
        "sfp": RuleKind(sfp, ("filter", "unstructured")),
        "iht": RuleKind(iht, _WEIGHTS),
        "set": RuleKind(set_rule, _WEIGHTS),
        "rigl": RuleKind(rigl, _WEIGHTS),
        "ste": RuleKind(ste, ("N:M",)),
        "sr_ste": RuleKind(sr_ste, ("N:M",)),
    }
)


def arguments_of(make: Callable[..., MaskRule]) -> dict[str, Any]:
    """What a rule's function takes beside ``steps`` and ``epoch``, each with its default, or ``Parameter.empty``."""
    given = inspect.signature(make).parameters
    return {name: each.default for name, each in given.items() if name not in ("steps", "epoch")}


def refuse_misplaced(name: str, granularity: str) -> None:
    """Raise ValueError for a granularity that a rule of the table can't keep.

    >>> refuse_misplaced("rigl", "unstructured")
    """
    can = RULES[name].granularities
    if ("N:M" if is_pattern(granularity) else granularity) not in can:
        raise ValueError(
            f"granularity is {granularity!r}, which rule {name!r} can't keep; it keeps {' or '.join(can)}"
        )
