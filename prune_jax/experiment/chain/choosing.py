"""Which channels stay: what a sparsifying action asks for, spread over the groups as its spec says."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from prune_jax.experiment import networks
from prune_jax.experiment.networks import StageNetwork
from prune_jax.experiment.specs import ModelSpec, Ranking, Sparsify
from prune_jax.pruning import allocation, isomorphism, iterated
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.keep import Keep, composed

Scores = Mapping[str, np.ndarray]
Allocate = Callable[[float], Keep]


def wanted(model: ModelSpec, groups: Sequence[Group], spec: Sparsify) -> list[Group]:
    """The groups, as they are now, that the action is about."""
    if spec.ranking is not None:
        return allocation.chosen(groups, spec.ranking.layers or networks.default_patterns(model))
    named = dict(spec.ratios)
    return [group for group in groups if group.name in named]


def chosen(before: StageNetwork, groups: list[Group], spec: Sparsify, scores: Scores, so_far: Keep) -> Keep:
    """Which channels of the network as it is now stay, of those that are left ``so_far``."""
    if spec.ranking is not None:
        return _ranked(before, groups, spec.ranking, spec.round_to, scores, so_far)
    return _to_widths(groups, networks.widths_of(before.model, spec.ratios, spec.round_to), scores)


def _to_widths(groups: Sequence[Group], widths: Mapping[str, int], scores: Scores) -> Keep:
    return {
        group.name: allocation.lowest(scores[group.name], max(group.size - widths[group.name], 0))
        for group in groups
    }


def _ranked(
    before: StageNetwork,
    groups: list[Group],
    ranking: Ranking,
    round_to: int,
    scores: Scores,
    so_far: Keep,
) -> Keep:
    """The allocation that the scores decide. Its ratio and its speedup are those of the dense network."""
    model, dense = before.model, {g.name: g.size for g in networks.groups_of(before.model)}
    how: dict[str, Any] = {
        "normalise": iterated.of_living(allocation.NORMALISERS[ranking.normalise]),
        "at_least": ranking.at_least,
        "round_to": round_to,
        "dense": dense,
    }

    def allocate(ratio: float) -> Keep:
        if ranking.scope == "layer":
            ratios = tuple((group.name, ratio) for group in groups)
            found = _to_widths(groups, networks.widths_of(model, ratios, round_to), scores)
        elif ranking.scope == "isomorphic":
            found = isomorphism.isomorphic_ranking(
                groups, scores, ratio, isomorphism.ranks_of(before.variables), **how
            )
        else:
            found = allocation.global_ranking(groups, scores, ratio, **how)
        return iterated.nested(found, so_far)

    return reached(before, ranking, allocate)


def reached(before: StageNetwork, ranking: Ranking | None, allocate: Allocate) -> Keep:
    """The keep at the ratio of the ranking, or the first that reaches its speedup."""
    assert ranking is not None
    model = before.model
    if not ranking.speedup:
        return allocate(ranking.ratio)

    def macs(keep: Keep) -> int:
        return networks.cost_of(model, {n: len(k) for n, k in composed(before.keep, keep).items()}).macs

    left = ranking.speedup * macs({}) / networks.cost_of(model).macs  # what rounds before left to do
    return allocate(0.0) if left <= 1 else allocation.to_speedup(allocate, macs, left)
