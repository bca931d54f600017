"""Pruning ratios to keeps: how many channels each group loses, and which.

All functions take the groups and the criterion's scores. Of ``n`` channels ``ceil(ratio * n)`` go
(arXiv 2301.05219 via its companion code), at least one stays, and equal scores fall in a fixed
order: of two equal channels the earlier one goes first.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType

import numpy as np

from prune_jax.pruning.granularity import ceiling, select, select_global
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.keep import Keep
from prune_jax.pruning.lamp import lamp_fractions


def rounded_up(kept: int, size: int, round_to: int) -> int:
    """The next multiple of ``round_to``, at most ``size``. Raises ValueError for a ``round_to`` below 1."""
    if round_to < 1:
        raise ValueError(f"round_to must be at least 1, not {round_to}")
    return min(math.ceil(kept / round_to) * round_to, size)


def pruned_count(size: int, ratio: float, *, round_to: int = 1) -> int:
    """How many of ``size`` channels go: ceil(ratio * size), at least one stays.

    With ``round_to`` the kept number is rounded up to a multiple of it (hardware likes 8).
    Raises ValueError for a ratio outside [0, 1].
    """
    gone = min(ceiling(ratio, size), size - 1)
    return size - rounded_up(size - gone, size, round_to)


def least_width(size: int, at_least: float = 0.0, *, round_to: int = 1) -> int:
    """The fewest of ``size`` channels that may stay: the fraction ``at_least``, and one in any case, rounded up."""
    return rounded_up(max(1, ceiling(at_least, size)), size, round_to)


def lowest(scores: np.ndarray, gone: int) -> np.ndarray:
    """Sorted indices that stay when the ``gone`` lowest scores go (stable: ties in index order)."""
    return np.flatnonzero(select(np.asarray(scores), int(gone)))


def fits(name: str, pattern: str) -> bool:
    """Whether ``pattern`` names the group.

    Dimensions inside of heads (``q:inner``) are meant only where the pattern ends in ``:inner``. Most attention
    fixes the size of a head in its code, and could not run itself with smaller heads.
    """
    if name.endswith(":inner") and not pattern.endswith(":inner"):
        return False
    return fnmatchcase(name, pattern)


def chosen(groups: Sequence[Group], patterns: Sequence[str]) -> list[Group]:
    """Prunable groups whose name fits one of the patterns. ValueError for a pattern that fits none."""
    for pattern in patterns:
        named = [group for group in groups if fits(group.name, pattern)]
        if not named:
            names = ", ".join(group.name for group in groups)
            raise ValueError(f"no group's name fits {pattern!r}; groups are {names}")
        if all(group.frozen is not None for group in named):
            raise ValueError(
                f"all groups that fit {pattern!r} are frozen; {named[0].name}: {named[0].frozen}"
            )
    return [g for g in groups if g.frozen is None and any(fits(g.name, p) for p in patterns)]


def _score(scores: Mapping[str, np.ndarray], group: Group) -> np.ndarray:
    if group.name not in scores or len(scores[group.name]) != group.size:
        raise KeyError(f"scores must hold {group.size} numbers for group {group.name!r}")
    return np.asarray(scores[group.name])


def uniform(
    groups: Sequence[Group],
    scores: Mapping[str, np.ndarray],
    ratio: float,
    patterns: Sequence[str] = ("*",),
    *,
    round_to: int = 1,
) -> Keep:
    """The same ratio in every prunable group whose name fits one of ``patterns``."""
    return {
        group.name: lowest(_score(scores, group), pruned_count(group.size, ratio, round_to=round_to))
        for group in chosen(groups, patterns)
    }


def by_pattern(
    groups: Sequence[Group],
    scores: Mapping[str, np.ndarray],
    ratios: Mapping[str, float],
    *,
    round_to: int = 1,
) -> Keep:
    """A ratio per name pattern, such as ``{"*conv1": 0.5}``. The first pattern that fits a group counts."""
    keep: Keep = {}
    for pattern, ratio in ratios.items():
        part = uniform(groups, scores, ratio, (pattern,), round_to=round_to)
        keep |= {name: kept for name, kept in part.items() if name not in keep}
    return keep


def per_stage(
    groups: Sequence[Group],
    scores: Mapping[str, np.ndarray],
    ratios: Sequence[float],
    stages: Sequence[Sequence[str]],
    patterns: Sequence[str] = ("*",),
    *,
    round_to: int = 1,
) -> Keep:
    """One ratio per stage, such as ``[0, 0.6, 0.6, 0.6, 0.21, 0]`` for stem, four stages and head.

    ``stages`` holds each stage's name patterns. Of a stage only groups that fit ``patterns`` are
    pruned. Raises ValueError where the lists differ in length.
    """
    if len(ratios) != len(stages):
        raise ValueError(f"{len(ratios)} ratios {list(ratios)} were given for {len(stages)} stages")
    mine = chosen(groups, patterns)
    keep: Keep = {}
    for ratio, stage in zip(ratios, stages, strict=True):
        for group in mine:
            if any(fits(group.name, pattern) for pattern in stage) and group.name not in keep:
                gone = pruned_count(group.size, ratio, round_to=round_to)
                keep[group.name] = lowest(_score(scores, group), gone)
    return keep


Normalise = Callable[[np.ndarray], np.ndarray]


def as_is(scores: np.ndarray) -> np.ndarray:
    """Scores of different groups compared as they are."""
    return scores


def by_mean(scores: np.ndarray) -> np.ndarray:
    """Scores over their group's mean magnitude."""
    return scores / max(float(np.abs(scores).mean()), np.finfo(np.float64).tiny)


def by_norm(scores: np.ndarray) -> np.ndarray:
    """Scores over their group's l2 norm (the layer normalisation of Molchanov et al., ICLR 2017)."""
    return scores / max(float(np.linalg.norm(scores)), np.finfo(np.float64).tiny)


def by_max(scores: np.ndarray) -> np.ndarray:
    """Scores over their group's largest magnitude."""
    return scores / max(float(np.abs(scores).max()), np.finfo(np.float64).tiny)


def standardised(scores: np.ndarray) -> np.ndarray:
    """Scores less their group's mean, over its standard deviation. 0 where all are equal."""
    return (scores - scores.mean()) / max(float(scores.std()), np.finfo(np.float64).tiny)


def by_lamp(scores: np.ndarray) -> np.ndarray:
    """Each score over the sum of those of its group that are as large or larger (LAMP, where scores are squares).

    Raises ValueError for a score below 0.
    """
    if scores.size and scores.min() < 0:
        raise ValueError(
            f"normalise is 'lamp', which adds scores up, and one is {scores.min():.3g}; take a criterion without "
            "negative scores, or normalise 'mean'"
        )
    return lamp_fractions(scores)


# How scores of different groups are made comparable, by the name that a config gives it.
NORMALISERS: Mapping[str, Normalise] = MappingProxyType(
    {
        "none": as_is,
        "mean": by_mean,
        "max": by_max,
        "norm": by_norm,
        "standardise": standardised,
        "lamp": by_lamp,
    }
)


def global_ranking(
    groups: Sequence[Group],
    scores: Mapping[str, np.ndarray],
    ratio: float,
    patterns: Sequence[str] = ("*",),
    *,
    normalise: Normalise = by_mean,
    at_least: float = 0.0,
    round_to: int = 1,
    dense: Mapping[str, int] = MappingProxyType({}),
) -> Keep:
    """The lowest ``ceil(ratio * all)`` channels of all chosen groups together.

    ``at_least`` is the fraction that every group keeps whatever the ranking says, and one channel
    in any case: the guard against a layer's collapse. Where the guard binds, other channels go
    instead, as far as there are any. With ``round_to`` each group's kept number is rounded up.
    ``dense`` holds the dense network's sizes of groups that have been cut before: ``ratio`` and
    ``at_least`` are fractions of these, and what went before counts.
    """
    if not 0 <= at_least <= 1:
        raise ValueError(f"at_least is the fraction every group keeps, in [0, 1], not {at_least}")
    mine = chosen(groups, patterns)
    marks = [np.asarray(normalise(_score(scores, group).astype(np.float64))) for group in mine]
    sizes, whole = [g.size for g in mine], [dense.get(g.name, g.size) for g in mine]
    floors = [min(least_width(n, at_least), size) for n, size in zip(whole, sizes, strict=True)]
    more = ceiling(ratio, sum(whole)) - (sum(whole) - sum(sizes))
    return ranked_together(mine, marks, max(more, 0), floors, round_to)


def ranked_together(
    groups: Sequence[Group], marks: Sequence[np.ndarray], gone: int, floors: Sequence[int], round_to: int
) -> Keep:
    """The ``gone`` channels of the lowest ``marks`` go, of all groups together.

    ``marks`` are scores that can be compared between groups. Of each group the number in ``floors`` stays, and what
    stays is rounded up. Where the floors leave fewer channels than ``gone``, all of those go.
    """
    total = min(gone, sum(group.size for group in groups) - sum(floors))
    kept = [np.count_nonzero(keep) for keep in select_global(marks, total, floors)]
    return {
        group.name: lowest(mark, group.size - rounded_up(int(n), group.size, round_to))
        for group, mark, n in zip(groups, marks, kept, strict=True)
    }


def to_speedup(
    allocate: Callable[[float], Keep], macs: Callable[[Keep], int], speedup: float, *, steps: int = 40
) -> Keep:
    """The keep of the smallest ratio whose MACs are at most the dense ones over ``speedup``.

    ``allocate(ratio)`` is any allocation above with its other arguments bound, ``macs(keep)`` the
    exact cost after rounding (``cost.cost_of_keeps``). Bisection on the ratio, since MACs never rise
    with it. Raises ValueError where even the largest ratio is not fast enough.
    """
    dense = macs({})
    if speedup < 1:
        raise ValueError(f"a target speedup is at least 1, not {speedup}")
    low, high = 0.0, 1.0
    best = allocate(high)
    if macs(best) * speedup > dense:
        raise ValueError(
            f"speedup {speedup} is out of reach: pruning all it can gives {dense / macs(best):.3f}; prune more layers, "
            "or ask for less"
        )
    for _ in range(steps):
        middle = (low + high) / 2
        keep = allocate(middle)
        if macs(keep) * speedup <= dense:
            high, best = middle, keep
        else:
            low = middle
    return best
