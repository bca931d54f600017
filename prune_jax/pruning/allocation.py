"""Pruning ratios to keeps: how many channels each group loses, and which.

All functions take the groups and the criterion's scores; of ``n`` channels ``ceil(ratio * n)`` go
(arXiv 2301.05219 via its companion code), at least one stays, and equal scores fall in a fixed
order: of two equal channels the earlier one goes first.
"""

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.keep import Keep

# 0.7 * 10 is 7.000000000000001 on some paths of arithmetic; a ratio isn't meant that precisely.
NOISE = 1e-9


def pruned_count(size: int, ratio: float, *, round_to: int = 1) -> int:
    """How many of ``size`` channels go: ceil(ratio * size), at least one stays.

    With ``round_to`` the kept number is rounded up to a multiple of it (hardware likes 8).
    Raises ValueError for a ratio outside [0, 1].
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"a pruning ratio is the fraction removed, in [0, 1], not {ratio}")
    if round_to < 1:
        raise ValueError(f"round_to must be at least 1, not {round_to}")
    gone = min(math.ceil(ratio * size - NOISE), size - 1)
    kept = min(math.ceil((size - gone) / round_to) * round_to, size)
    return size - kept


def lowest(scores: np.ndarray, gone: int) -> np.ndarray:
    """Sorted indices that stay when the ``gone`` lowest scores go (stable: ties in index order)."""
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN; a criterion must rank every channel")
    return np.sort(np.argsort(scores, kind="stable")[gone:])


def chosen(groups: Sequence[Group], patterns: Sequence[str]) -> list[Group]:
    """Prunable groups whose name fits one of the patterns; ValueError for a pattern that fits none."""
    for pattern in patterns:
        fits = [group for group in groups if fnmatchcase(group.name, pattern)]
        if not fits:
            names = ", ".join(group.name for group in groups)
            raise ValueError(f"no group's name fits {pattern!r}; groups are {names}")
        if all(group.frozen is not None for group in fits):
            raise ValueError(f"all groups that fit {pattern!r} are frozen; {fits[0].name}: {fits[0].frozen}")
    return [g for g in groups if g.frozen is None and any(fnmatchcase(g.name, p) for p in patterns)]


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
