"""Criteria that look at the gradient of the loss."""

from prune_jax.pruning.criteria.weights import Scores, mapped, producer_sum, scored_leaves
from prune_jax.pruning.evidence import Evidence


def _products(evidence: Evidence) -> Scores:
    """w * g of every weight: to first order, minus what the loss gains when the weight is set to 0."""
    return mapped(
        lambda weights, grads: weights * grads, scored_leaves(evidence), scored_leaves(evidence, "grads")
    )


def taylor(evidence: Evidence) -> Scores:
    """First-order Taylor importance of a weight: abs(w * g), g the mean gradient of the loss.

    Source: Molchanov et al., CVPR 2019, arXiv 1906.10771, without the square, which changes no rank.
    """
    return mapped(abs, _products(evidence))


def taylor_of_channels(evidence: Evidence) -> Scores:
    """First-order Taylor importance of a channel: abs(sum of w * g over the channel's filter in the producer).

    It is the change of the loss, to first order, when the whole filter is set to 0. Products of one
    filter may cancel, so it isn't the mean of the weights' own scores. The paper squares this sum for
    each batch and adds up; here g is the mean gradient first, and the absolute value is taken of the sum.
    """
    return mapped(abs, producer_sum(_products(evidence), evidence.groups))
