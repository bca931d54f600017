"""Criteria that look at activations: of a channel as it is made, and of weights as inputs meet them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.criteria.readers import like_leaf, matrices, per_channel, readers, wide
from prune_jax.pruning.criteria.replacing import kept_rows, replaced
from prune_jax.pruning.criteria.weights import Scores, on_host, prunable, scored_leaves
from prune_jax.pruning.evidence import Evidence
from prune_jax.pruning.jaxpr.reading import leaf_paths


def activation(evidence: Evidence) -> Scores:
    """Root of the sum over examples of (mean abs a) ** 2, the mean over an example's positions.

    Source: Minitron, arXiv 2407.14679: mean over the sequence, l2 norm over the examples.
    """
    return {name: on_host(score) for name, score in evidence.example_activations.items()}


def mean_activation(evidence: Evidence) -> Scores:
    """Mean abs a of each channel over all examples and positions.

    Source: Minitron, arXiv 2407.14679, with the mean for both.
    """
    return {name: on_host(found.mean_abs) for name, found in evidence.activations.items()}


def hrank(evidence: Evidence) -> Scores:
    """Mean rank of each channel's feature maps over all examples.

    Groups that no convolution over two axes makes have no feature maps, and no scores.
    Source: Lin et al., CVPR 2020, arXiv 2002.10179.
    """
    return {name: on_host(score) for name, score in evidence.map_ranks.items()}


def wanda(evidence: Evidence) -> Scores:
    """The rank of abs(W_ij) norm2(a_j) among the weights of its output i, as a fraction of them.

    So a layer's lowest scores take as many weights of every output, as the method compares them. The
    lowest weight of an output has 0, and of equal ones the earlier is lower. Weights that are 0, as pruned
    ones are, come before all others. Kernels whose inputs aren't known have no scores.
    Source: Sun et al., ICLR 2024, arXiv 2306.11695 Eq. (1).
    """
    leaves, out = scored_leaves(evidence), {}
    for path, weights, known in _kernels(evidence):
        scores = _pruned_first(weights, abs(weights) * known.norm[:, :, None])
        out[path] = like_leaf(known.layout, _ranks(scores), leaves[path])
    return out


def wanda_of_channels(evidence: Evidence) -> Scores:
    """Mean over a channel's readers of the mean of abs(W_ij) norm2(a_j) over the weights that read it.

    Source: Wanda-sp as in An et al., AAAI 2024, arXiv 2312.11983. A convolution's weights are its window's too.
    """
    sizes = {group.name: group.size for group in prunable(evidence.groups)}
    out: Scores = {}
    for name, found in readers(evidence, "inputs").items():
        means = []
        for one in found:
            product = (abs(one.weights) * one.found.norm[:, :, None]).mean(2)
            count = len(product) * np.bincount(one.channel[one.channel >= 0], minlength=sizes[name])
            means.append(per_channel(one, product, sizes[name]) / np.maximum(count, 1))
        out[name] = sum(means) / len(means)
    return out


def ria(evidence: Evidence) -> Scores:
    """(abs(W_ij) over its input's sum + abs(W_ij) over its output's sum) times the root of norm2(a_j).

    The sums are over all weights of the input j, and of the output i. Kernels whose inputs aren't known
    have no scores. Source: Zhang et al., Plug-and-Play, ICLR 2024, with its power a = 0.5.
    """
    leaves, out = scored_leaves(evidence), {}
    for path, weights, known in _kernels(evidence):
        size = abs(weights)
        relative = _over(size, size.sum(2, keepdims=True)) + _over(size, size.sum(1, keepdims=True))
        out[path] = like_leaf(known.layout, relative * known.norm[:, :, None] ** 0.5, leaves[path])
    return out


def flap(evidence: Evidence) -> Scores:
    """Sum over a channel's readers of the variance of a_j times norm2(W_:j) ** 2.

    It is the variance of what the channel adds to its readers' outputs, summed over them as if the rows
    of a window were independent. Source: An et al., AAAI 2024, arXiv 2312.11983, before its
    standardisation, which is a normaliser of global rankings.
    """
    sizes = {group.name: group.size for group in prunable(evidence.groups)}
    return {
        name: sum(
            per_channel(one, one.found.variance * (one.weights**2).sum(2), sizes[name]) for one in found
        )
        for name, found in readers(evidence, "inputs").items()
    }


def add_mean_outputs(evidence: Evidence, keep: Mapping[str, Any]) -> Any:
    """Params in which each reader's bias also holds what the removed inputs add to its outputs on average.

    So the mean of every output stays, as far as the reader has a bias. Where a norm subtracts a running mean from the
    outputs instead, that mean is lowered. A reader without either is left as it is.
    Source: An et al., AAAI 2024, arXiv 2312.11983.
    """
    leaves = dict(leaf_paths(evidence.params))
    new: dict[str, np.ndarray] = {}
    for path, stays in kept_rows(evidence, keep, "inputs").items():
        known = wide(evidence.inputs[path])
        if known.shift is None or stays.all():
            continue
        gone = (known.mean * ~stays)[:, None, :] @ matrices(known.layout, leaves[path])
        shift, sign = known.shift
        new[shift] = np.asarray(new.get(shift, leaves[shift]), np.float64) + sign * gone.reshape(
            leaves[shift].shape
        )
    return replaced(evidence.params, new)


def _kernels(evidence: Evidence) -> list[tuple[str, Any, Any]]:
    """Path, matrices and inputs of every kernel whose inputs are known."""
    leaves, known = scored_leaves(evidence), evidence.inputs
    return [
        (path, matrices(known[path].layout, leaf), wide(known[path]))
        for path, leaf in leaves.items()
        if path in known
    ]


def _pruned_first(weights: Any, scores: Any) -> Any:
    xp = jnp if isinstance(scores, jax.core.Tracer) else np
    return xp.where(weights == 0, -1, scores)


def _ranks(scores: Any) -> Any:
    """The place of each row in its column's ascending order, as a fraction: (blocks, rows, columns)."""
    xp = jnp if isinstance(scores, jax.core.Tracer) else np
    order = xp.argsort(scores, axis=1, stable=True)
    return xp.argsort(order, axis=1, stable=True) / scores.shape[1]


def _over(size: Any, total: Any) -> Any:
    """A quotient, 0 where all weights are 0."""
    xp = jnp if isinstance(size, jax.core.Tracer) else np
    return size / xp.where(total == 0, 1, total)
