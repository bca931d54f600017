"""Criteria that look at the weights alone, and chance."""

from typing import Any

import jax
import numpy as np

from prune_jax.pruning.criteria.weights import (
    Scores,
    like,
    made_leaves,
    mapped,
    on_host,
    producer_mean,
    prunable,
    root,
    scored_leaves,
)
from prune_jax.pruning.evidence import Evidence
from prune_jax.pruning.lamp import lamp_fractions


def l1(evidence: Evidence) -> Scores:
    """Absolute value of each weight.

    A channel has the mean over its filter (arXiv 2301.05219 Sec. 4 and Li et al., ICLR 2017).
    """
    return mapped(abs, scored_leaves(evidence))


def l2(evidence: Evidence) -> Scores:
    """Square of each weight, which ranks single weights as l1 does."""
    return mapped(_square, scored_leaves(evidence))


def l2_of_channels(evidence: Evidence) -> Scores:
    """Root mean square weight of each filter."""
    return mapped(root, producer_mean(mapped(_square, made_leaves(evidence)), evidence.groups))


def largest(evidence: Evidence) -> Scores:
    """The l1 score turned around: the largest go first, as a control."""
    return mapped(lambda score: -score, l1(evidence))


def lamp(evidence: Evidence) -> Scores:
    """Layer-adaptive magnitude: w_u^2 over the sum of w_v^2 of all weights of the kernel that are as large or larger.

    Scores of different kernels can be compared as they are, and the largest of each is 1: a global ranking takes no
    kernel's last weight. Source: Lee et al., ICLR 2021, arXiv 2010.07611, Eq. (3).
    """
    return mapped(
        lambda square, leaf: like(lamp_fractions(square), leaf), l2(evidence), scored_leaves(evidence)
    )


def lamp_of_channels(evidence: Evidence) -> Scores:
    """LAMP of the filters' squared norms, in ascending order within the group."""
    return mapped(lamp_fractions, producer_mean(mapped(_square, made_leaves(evidence)), evidence.groups))


def random(evidence: Evidence) -> Scores:
    """Uniform scores from ``evidence.key``, one independent draw per leaf."""
    leaves = scored_leaves(evidence)
    return _draws(evidence.key, {path: np.shape(leaf) for path, leaf in leaves.items()})


def random_of_channels(evidence: Evidence) -> Scores:
    """Uniform scores from ``evidence.key``, one independent draw per group."""
    return _draws(evidence.key, {group.name: (group.size,) for group in prunable(evidence.groups)})


def _square(weights: Any) -> Any:
    return weights * weights


def _draws(key: jax.Array | None, shapes: dict[str, tuple[int, ...]]) -> Scores:
    assert key is not None  # the criterion's needs say so, and channel_scores and weight_scores check them
    keys = jax.random.split(key, max(len(shapes), 1))
    pairs = zip(shapes.items(), keys, strict=False)
    return {name: on_host(jax.random.uniform(k, shape)) for (name, shape), k in pairs}
