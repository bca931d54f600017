"""The iterations of a sparsifying action that cuts channels: what each is asked for, of the dense network."""

import dataclasses
from collections.abc import Sequence

from prune_jax.experiment import networks
from prune_jax.experiment.networks import StageNetwork
from prune_jax.experiment.specs import Sparsify
from prune_jax.pruning.iterated import exponential_ratios
from prune_jax.pruning.jaxpr.groups import Group


def filter_steps(before: StageNetwork, groups: Sequence[Group], spec: Sparsify) -> list[Sparsify]:
    """The spec as it stands for each iteration: ratios and speedups grow to the spec's own.

    What is left shrinks by the same factor each time, from what ``before`` has left: of each layer by itself, or of
    all that are ranked. A speedup grows by the same factor.

    Args:
        before: the network before the action.
        groups: those that lose channels, as they are in it.
        spec: the action.
    """
    n = spec.iterations
    if n == 1:
        return [spec]
    if spec.ranking is not None and spec.ranking.speedup:
        return _to_speedup(before, spec)
    dense = {group.name: group.size for group in networks.groups_of(before.model)}
    if spec.ranking is not None:
        gone = 1 - sum(group.size for group in groups) / sum(dense[group.name] for group in groups)
        ratios = exponential_ratios(gone, spec.ranking.ratio, n)
        rankings = (dataclasses.replace(spec.ranking, ratio=ratio) for ratio in ratios)
        return [dataclasses.replace(spec, ranking=ranking) for ranking in rankings]
    left = {group.name: group.size / dense[group.name] for group in groups}
    each = [
        (name, exponential_ratios(1 - left[name], ratio, n)) for name, ratio in spec.ratios if name in left
    ]
    return [
        dataclasses.replace(spec, ratios=tuple((name, ratios[k]) for name, ratios in each)) for k in range(n)
    ]


def _to_speedup(before: StageNetwork, spec: Sparsify) -> list[Sparsify]:
    assert spec.ranking is not None
    ranking, n = spec.ranking, spec.iterations
    widths = {name: len(kept) for name, kept in before.keep.items()}
    first = networks.cost_of(before.model).macs / networks.cost_of(before.model, widths).macs
    factor = max(ranking.speedup / first, 1.0)
    speedups = [*(min(first * factor ** (k / n), ranking.speedup) for k in range(1, n)), ranking.speedup]
    return [
        dataclasses.replace(spec, ranking=dataclasses.replace(ranking, speedup=speedup))
        for speedup in speedups
    ]
