"""One score per channel from the scores of all its coupled slices.

Source: Fang et al., DepGraph, CVPR 2023, arXiv 2301.12900, Sec. 3.4 (sum and mean). Their code adds max and product.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.criteria.weights import Scores, prunable
from prune_jax.pruning.evidence import Evidence
from prune_jax.pruning.jaxpr.groups import Slice
from prune_jax.pruning.slices import coupled_slices, kernel_paths

OVER = ("producer", "coupled")


def _largest(one: Any, other: Any) -> Any:
    traced = isinstance(one, jax.core.Tracer) or isinstance(other, jax.core.Tracer)
    return jnp.maximum(one, other) if traced else np.maximum(one, other)


# How the scores of a channel's slices, arrays (channels,) with the producer's first, become one.
REDUCTIONS: Mapping[str, Callable[[Sequence[Any]], Any]] = MappingProxyType(
    {
        "mean": lambda scores: sum(scores[1:], scores[0]) / len(scores),
        "sum": lambda scores: sum(scores[1:], scores[0]),
        "max": lambda scores: functools.reduce(_largest, scores),
        "product": lambda scores: functools.reduce(lambda one, other: one * other, scores),
        "first": lambda scores: scores[0],
    }
)


def reduced_over_slices(score: Callable[[Evidence], Scores], evidence: Evidence, reduce: str) -> Scores:
    """Scores of channels from all coupled slices.

    Args:
      score: scores of channels by their producers.
      evidence: with groups.
      reduce: a name of ``REDUCTIONS``.

    Returns:
      Group name -> scores (channels,), for groups that aren't frozen.
    """
    kernels = kernel_paths(evidence.params)
    slices: dict[str, tuple[Slice, ...]] = {
        group.name: coupled_slices(group, kernels) for group in prunable(evidence.groups)
    }
    if reduce == "first":
        slices = {name: mine[:1] for name, mine in slices.items()}
    found: dict[str, list[Any]] = {name: [] for name in slices}
    for place in range(max(map(len, slices.values()), default=0)):
        groups = [
            group._replace(producer=slices[group.name][place])
            for group in prunable(evidence.groups)
            if place < len(slices[group.name])
        ]
        for name, scores in score(evidence._replace(groups=groups)).items():
            found[name].append(scores)
    return {name: REDUCTIONS[reduce](scores) for name, scores in found.items()}
