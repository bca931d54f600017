"""Which channels stay: the asked amount, spread over the groups as the scope says."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx

from prune_jax.pruning import allocation
from prune_jax.pruning.granularity import ceiling
from prune_jax.pruning.isomorphism import alike
from prune_jax.pruning.iterated import exponential_ratios, nested, of_living
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.keep import Keep
from prune_jax.pruning.module.asked import Asked
from prune_jax.pruning.rounds import cumulative_speedups

Scores = Mapping[str, np.ndarray]


def named(groups: Sequence[Group], layers: Any, types: Any) -> list[Group]:
    """Groups that ``layers`` names and that can be pruned.

    Raises:
      ValueError: a pattern fits no group, or all that fit are frozen, or the filter picks none.
    """
    if isinstance(layers, str):
        return allocation.chosen(groups, (layers,))
    if isinstance(layers, list | tuple) and layers and all(isinstance(each, str) for each in layers):
        return allocation.chosen(groups, layers)
    if not types:
        raise ValueError(
            f"layers is {layers!r}; give patterns over group names (filters are for nnx modules)"
        )
    try:
        fits = nnx.filterlib.to_predicate(layers)
    except (TypeError, ValueError):
        raise ValueError(f"layers is {layers!r}; give patterns over group names, or an nnx filter") from None
    found = [g for g in allocation.chosen(groups, ("*",)) if fits(*types[g.producer.path])]
    if not found:
        raise ValueError(
            f"layers is {layers!r}, a filter that picks the maker of no group that can be pruned"
        )
    return found


def steps_of(asked: Asked) -> list[Asked]:
    """What is asked for in each iteration: ratios and speedups that grow to the last by the same factor."""
    n = asked.iterations
    if asked.speedup is not None:
        return [asked._replace(speedup=each) for each in cumulative_speedups(asked.speedup, n, "geometric")]
    if isinstance(asked.ratio, Mapping):
        each = {pattern: exponential_ratios(0.0, ratio, n) for pattern, ratio in asked.ratio.items()}
        return [asked._replace(ratio={p: ratios[k] for p, ratios in each.items()}) for k in range(n)]
    return [asked._replace(ratio=ratio) for ratio in exponential_ratios(0.0, asked.ratio or 0.0, n)]


def refuse_out_of_reach(asked: Asked, groups: Sequence[Group], ranks: Mapping[str, int]) -> None:
    """Raise ValueError, in one line, where groups ranked together can't lose ``ratio`` without one being emptied.

    Args:
      asked: what ``prune`` was asked for.
      groups: those that are pruned.
      ranks: leaf path -> how many axes the leaf has.
    """
    if asked.scope == "layer" or asked.ratio is None:
        return
    assert not isinstance(asked.ratio, Mapping)  # ``asked`` takes one ratio where groups are ranked together
    for each in [list(groups)] if asked.scope == "global" else alike(groups, ranks):
        size = sum(group.size for group in each)
        reach = size - sum(_floor(group, asked._replace(round_to=1)) for group in each)
        if ceiling(asked.ratio, size) > reach:
            floor = (
                f"at_least={asked.at_least} of every group"
                if asked.at_least
                else "one channel of every group"
            )
            raise ValueError(
                f"ratio is {asked.ratio}, but with {floor} left, {reach / size:.4g} of {each[0].name!r} and those "
                f"ranked with it is all that can go; ask for less{', or lower at_least' if asked.at_least else ''}"
            )


def refuse_floored_weights(asked: Asked, sizes: Mapping[str, int]) -> None:
    """Raise ValueError, in one line, where kernels ranked together can't lose ``ratio`` with ``at_least`` of each left.

    Args:
      asked: what ``prune`` was asked for, with masks of single weights or of blocks.
      sizes: layer name -> how many weights or blocks it has.
    """
    if asked.scope == "layer" or asked.ratio is None:
        return
    assert not isinstance(asked.ratio, Mapping)
    size = sum(sizes.values())
    reach = size - sum(max(1, ceiling(float(asked.at_least), each)) for each in sizes.values())
    if ceiling(asked.ratio, size) > reach:
        floor = f"at_least={asked.at_least} of every kernel" if asked.at_least else "no kernel emptied"
        raise ValueError(
            f"ratio is {asked.ratio}, but with {floor}{' left' if asked.at_least else ''}, {reach / size:.4g} of all "
            f"is all that can go; ask for less{', or lower at_least' if asked.at_least else ''}"
        )


def chosen(
    asked: Asked,
    groups: Sequence[Group],
    scores: Scores,
    macs: Callable[[Keep], int],
    ranks: Mapping[str, int],
    so_far: Keep,
) -> Keep:
    """The keep of the network as it is.

    Args:
      asked: what ``prune`` was asked for.
      groups: those that are pruned.
      scores: of each group's channels.
      macs: cost of a keep.
      ranks: leaf path -> how many axes the leaf has.
      so_far: what earlier iterations left.
    """

    def allocate(ratio: Any) -> Keep:
        return nested(_at_ratio(asked, groups, scores, ratio, ranks), so_far)

    if asked.speedup is None:
        return allocate(asked.ratio)

    return allocation.to_speedup(allocate, macs, asked.speedup)


def _at_ratio(
    asked: Asked, groups: Sequence[Group], scores: Scores, ratio: Any, ranks: Mapping[str, int]
) -> Keep:
    if asked.scope == "layer":
        found = {}
        for group in groups:
            mine = _ratio_of(group, ratio)
            stay = group.size - allocation.pruned_count(group.size, mine, round_to=asked.round_to)
            found[group.name] = allocation.lowest(
                scores[group.name], group.size - max(stay, _floor(group, asked))
            )
        return found
    if asked.scope == "global":
        return _together(asked, groups, scores, ratio)
    keep: Keep = {}
    for each in alike(groups, ranks):
        keep |= _together(asked, each, scores, ratio)
    return keep


def _ratio_of(group: Group, ratio: Any) -> float:
    """Of a mapping, the first pattern that fits. 0 where none does."""
    if isinstance(ratio, Mapping):
        return next((part for pattern, part in ratio.items() if allocation.fits(group.name, pattern)), 0.0)
    return ratio


def _floor(group: Group, asked: Asked) -> int:
    least = asked.at_least
    count = least if isinstance(least, int) else ceiling(least, group.size)
    return allocation.rounded_up(max(1, int(count)), group.size, asked.round_to)


def _together(asked: Asked, groups: Sequence[Group], scores: Scores, ratio: float) -> Keep:
    """The lowest ``ceil(ratio * all)`` channels of these groups, scores made comparable between groups."""
    normalise = of_living(allocation.NORMALISERS[asked.normalise or "mean"])
    marks = [normalise(np.asarray(scores[g.name], np.float64)) for g in groups]
    floors = [_floor(group, asked) for group in groups]
    gone = ceiling(ratio, sum(group.size for group in groups))
    return allocation.ranked_together(groups, marks, gone, floors, asked.round_to)
