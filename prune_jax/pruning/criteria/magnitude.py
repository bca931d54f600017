"""Importance of channels. Larger score: keep.

A criterion is one function from ``Evidence`` to scores per group. Frozen groups get none.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.jaxpr.reading import leaf_paths

Scores = dict[str, np.ndarray]  # group name -> one number per channel


class Evidence(NamedTuple):
    """What a criterion may look at; ``grads`` and ``activations`` where it asks for them."""

    params: Any
    groups: Sequence[Group]
    grads: Any = None
    activations: Any = None
    key: jax.Array | None = None


Criterion = Callable[[Evidence], Scores]


def prunable(groups: Sequence[Group]) -> list[Group]:
    """Groups that aren't frozen."""
    return [group for group in groups if group.frozen is None]


def _per_channel(group: Group, leaf: np.ndarray, entry: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Mean of ``entry(weights)`` over the part of the producer that makes each channel."""
    axis, index = group.producer.axis, group.producer.index
    rest = tuple(k for k in range(leaf.ndim) if k != axis)
    means = entry(leaf).mean(axis=rest, dtype=np.float64)
    total = np.bincount(index[index >= 0], means[index >= 0], group.size)
    return total / np.bincount(index[index >= 0], minlength=group.size)


def _scored(evidence: Evidence, entry: Callable[[np.ndarray], np.ndarray]) -> Scores:
    leaves = dict(leaf_paths(evidence.params))
    out = {}
    for group in prunable(evidence.groups):
        if group.producer.path not in leaves:
            raise KeyError(
                f"group {group.name!r} is made by leaf {group.producer.path!r}, which params don't have"
            )
        out[group.name] = _per_channel(group, np.asarray(leaves[group.producer.path]), entry)
    return out


def l1(evidence: Evidence) -> Scores:
    """Mean absolute weight of each filter (arXiv 2301.05219 Sec. 4; Li et al., ICLR 2017)."""
    return _scored(evidence, np.abs)


def l2(evidence: Evidence) -> Scores:
    """Root mean square weight of each filter."""
    return {name: np.sqrt(mean) for name, mean in _scored(evidence, np.square).items()}


def largest(evidence: Evidence) -> Scores:
    """Prunes the largest filters first: the l1 score turned around, as a control."""
    return {name: -score for name, score in l1(evidence).items()}


def random(evidence: Evidence) -> Scores:
    """Uniform scores from ``evidence.key``, one independent draw per group."""
    if evidence.key is None:
        raise ValueError("criteria.random needs a PRNG key: Evidence(..., key=jax.random.key(seed))")
    groups = prunable(evidence.groups)
    keys = jax.random.split(evidence.key, max(len(groups), 1))
    return {g.name: np.asarray(jax.random.uniform(k, (g.size,))) for g, k in zip(groups, keys, strict=False)}


# Every criterion by the name that a config gives it; the contract test runs over this table.
CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {"l1": l1, "l2": l2, "largest": largest, "random": random}
)
