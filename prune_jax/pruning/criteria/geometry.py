"""Criteria that look at where a filter lies among the others of its layer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.criteria.weights import Scores, made_leaves, prunable
from prune_jax.pruning.evidence import Evidence
from prune_jax.pruning.jaxpr.groups import Group


def fpgm(evidence: Evidence) -> Scores:
    """Sum of a filter's Euclidean distances to all other filters of its layer.

    Filters near the geometric median go: the others can stand for them. Source: He et al., CVPR 2019,
    arXiv 1811.00250, Eq. (5).
    """
    leaves = made_leaves(evidence)
    return {
        group.name: _distances(_filters(leaves[group.producer.path], group))
        for group in prunable(evidence.groups)
    }


def _filters(leaf: Any, group: Group) -> Any:
    """The producer's weights as one row per channel. The row of a channel with fewer positions ends in zeros."""
    axis, index = group.producer.axis, group.producer.index
    order = np.argsort(index, kind="stable")[np.count_nonzero(index < 0) :]  # positions, channel by channel
    channel, counts = index[order], np.bincount(index[order], minlength=group.size)
    lib: Any = jnp if isinstance(leaf, jax.core.Tracer) else np
    wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32), copy=False)
    flat = lib.moveaxis(wide, axis, 0).reshape(leaf.shape[axis], -1)
    if (counts == 1).all():  # nearly always: no zeros to fill in, so no copy of the weights for them
        return flat if np.array_equal(order, np.arange(len(flat))) else flat[order]
    rows = np.full((group.size, counts.max()), leaf.shape[axis])  # where there is no position, a row of zeros
    rows[channel, np.arange(len(order)) - (np.cumsum(counts) - counts)[channel]] = order
    flat = lib.concatenate([flat, lib.zeros((1, flat.shape[1]), flat.dtype)])
    return flat[rows].reshape(group.size, -1)


def _distances(filters: Any) -> Any:
    """Row sums of the matrix of distances, from one matrix product: |a - b|^2 = |a|^2 + |b|^2 - 2 a b.

    The filters' mean is taken off first, so that less cancels. In float32 a square is then off by about 1e-7 of the
    largest |a|^2, and so a distance between filters that nearly coincide by at most 1e-3 of the largest |a|.
    """
    filters = filters - filters.mean(0, keepdims=True)
    squares = (filters * filters).sum(1)
    if isinstance(filters, jax.core.Tracer):
        products = jnp.matmul(filters, filters.T, precision=jax.lax.Precision.HIGHEST)
        distances = jnp.sqrt(jnp.maximum(squares[:, None] + squares[None, :] - 2 * products, 0))
        return (distances * (1 - jnp.eye(len(filters), dtype=filters.dtype))).sum(1)  # no distance to itself
    distances = filters @ filters.T
    distances *= (
        -2
    )  # in place: the matrix takes 16 MB for 2,048 channels, and copies more time than the product
    distances += squares
    distances += squares[:, None]
    np.maximum(distances, 0, out=distances)
    np.fill_diagonal(distances, 0)
    return np.sqrt(distances, out=distances).sum(1, dtype=np.float64)
