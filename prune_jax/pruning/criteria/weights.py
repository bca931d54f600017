"""From numbers per weight to numbers per channel, in NumPy or traced by JAX.

Outside of a trace everything is NumPy on the host, and a channel's weights are summed in float64.
Inside (``jax.jit``, ``jax.vmap``) the same functions compute with JAX in float32 or wider.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.evidence import Evidence
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.layouts.unstructured import is_kernel

Scores = dict[str, Any]  # leaf path -> array of the leaf's shape, or group name -> array (channels,)


def prunable(groups: Sequence[Group]) -> list[Group]:
    """Groups that aren't frozen."""
    return [group for group in groups if group.frozen is None]


def on_host(array: Any) -> Any:
    """The array in NumPy, unless it is traced."""
    return array if isinstance(array, jax.core.Tracer) else np.asarray(array)


def root(array: Any) -> Any:
    """Square root, in NumPy unless the array is traced."""
    return jnp.sqrt(array) if isinstance(array, jax.core.Tracer) else np.sqrt(array)


def like(array: Any, leaf: Any) -> Any:
    """The array in the leaf's dtype, or in float32 where that is wider."""
    return array.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def scored_leaves(evidence: Evidence, field: str = "params") -> dict[str, Any]:
    """The leaves whose weights a criterion scores: every kernel, and what makes a prunable group.

    Args:
      evidence: its ``params`` say which leaves. Its groups must have been found for these params.
      field: the tree to read, such as 'grads'. It has the structure of ``params``.

    Returns:
      Leaf path -> array: NumPy, or traced as it came.

    Raises:
      KeyError: the tree lacks such a leaf.
    """
    producers = {group.producer.path: group for group in prunable(evidence.groups)}
    wanted = [p for p, leaf in leaf_paths(evidence.params) if p in producers or is_kernel(leaf)]
    leaves = dict(leaf_paths(getattr(evidence, field)))
    for path, group in producers.items():
        if path not in leaves:
            raise KeyError(f"group {group.name!r} is made by leaf {path!r}, which {field} don't have")
    lacks = [path for path in wanted if path not in leaves]
    if lacks:
        raise KeyError(f"{field} have no leaf {lacks[0]!r}, but params do; give a tree like params")
    return {path: on_host(leaves[path]) for path in wanted}


def made_leaves(evidence: Evidence, field: str = "params") -> dict[str, Any]:
    """The leaves that make the prunable groups: what scores of channels by their producers look at."""
    makers = {group.producer.path for group in prunable(evidence.groups)}
    return {path: leaf for path, leaf in scored_leaves(evidence, field).items() if path in makers}


def producer_mean(weights: Mapping[str, Any], groups: Sequence[Group]) -> Scores:
    """Mean number of each channel of each prunable group, over the part of the producer that makes it."""
    return {g.name: _summed(g, _made(weights, g)) / _positions(g) for g in prunable(groups)}


def producer_sum(weights: Mapping[str, Any], groups: Sequence[Group]) -> Scores:
    """Sum of the numbers of each channel of each prunable group, over the part of the producer that makes it."""
    out = {}
    for group in prunable(groups):
        leaf = _made(weights, group)
        out[group.name] = _summed(group, leaf) * (leaf.size // leaf.shape[group.producer.axis])
    return out


def _made(weights: Mapping[str, Any], group: Group) -> Any:
    """The numbers of the leaf that stands for the group's producer. ValueError where there are none."""
    path = group.producer.path
    if path not in weights:
        there = ", ".join(list(weights)[:8]) or "none"
        raise ValueError(
            f"there are scores of {there}, but none of {path!r}, which group {group.name!r} needs: add them"
        )
    return weights[path]


def _positions(group: Group) -> np.ndarray:
    """How many positions of the producer's axis make each channel."""
    index = group.producer.index
    return np.bincount(index[index >= 0], minlength=group.size)


def _summed(group: Group, leaf: Any) -> Any:
    """Per channel, the sum over its positions of the mean over all other axes."""
    axis, index = group.producer.axis, group.producer.index
    mine = index >= 0
    rest = tuple(k for k in range(leaf.ndim) if k != axis)
    if isinstance(leaf, jax.core.Tracer):
        means = leaf.mean(rest, dtype=jnp.promote_types(leaf.dtype, jnp.float32))
        return jnp.zeros(group.size, means.dtype).at[index[mine]].add(means[mine])
    means = leaf.mean(axis=rest, dtype=np.float64)
    return np.bincount(index[mine], means[mine], group.size)


def mapped(function: Callable[..., Any], *tables: Mapping[str, Any]) -> Scores:
    """``function`` of the arrays that tables with the same keys hold."""
    return {name: function(*(table[name] for table in tables)) for name in tables[0]}


def made_products(evidence: Evidence) -> Scores:
    """w * g of the weights that make channels: to first order, minus what the loss gains when they are set to 0."""
    return mapped(lambda w, g: w * g, made_leaves(evidence), made_leaves(evidence, "grads"))
