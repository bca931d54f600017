"""Criteria that look at the gradient of the loss, or of what stands for it. w: weight, g: mean gradient of the loss."""

from typing import Any

from prune_jax.pruning.criteria.weights import (
    Scores,
    made_leaves,
    made_products,
    mapped,
    on_host,
    producer_sum,
    prunable,
    scored_leaves,
)
from prune_jax.pruning.evidence import Evidence


def taylor(evidence: Evidence) -> Scores:
    """First-order Taylor importance of a weight: abs(w * g), g the mean gradient of the loss.

    Source: Molchanov et al., CVPR 2019, arXiv 1906.10771, without the square, which changes no rank.
    """
    return mapped(_size_of_product, scored_leaves(evidence), scored_leaves(evidence, "grads"))


def taylor_of_channels(evidence: Evidence) -> Scores:
    """First-order Taylor importance of a channel: abs(sum of w * g over the channel's filter in the producer).

    It is the change of the loss, to first order, when the whole filter is set to 0. Products of one
    filter may cancel, so it isn't the mean of the weights' own scores. The paper squares this sum for
    each batch and adds up. Here g is the mean gradient first, and the absolute value is taken of the sum.
    """
    return mapped(abs, producer_sum(made_products(evidence), evidence.groups))


def fisher(evidence: Evidence) -> Scores:
    """Change of the loss without a weight, to second order: w^2 * F / 2, F the mean over examples of g^2.

    F is the diagonal of the empirical Fisher information, which stands for the Hessian's of LeCun et al., NIPS 1989.
    """
    assert evidence.fisher is not None
    weights = scored_leaves(evidence)
    squares = scored_leaves(evidence._replace(grads_squared=evidence.fisher.weights), "grads_squared")
    return mapped(_half_curved, weights, squares)


def fisher_of_channels(evidence: Evidence) -> Scores:
    """Mean over examples of (sum of w * g over the channel's filter)^2 / 2, g an example's own gradient.

    Source: Wang et al., EigenDamage, ICML 2019, arXiv 1905.05934, Sec. 3.1 (OBD of filters), and Theis et al., 2018.
    """
    found = {
        group.name: evidence.fisher.slices[group.name][group.producer.path, group.producer.axis]
        for group in prunable(evidence.groups)
    }
    return mapped(lambda square: on_host(square) / 2, found)


def hessian(evidence: Evidence) -> Scores:
    """Change of the loss without a weight, to second order at a minimum: w^2 * H_ii / 2 (LeCun et al., NIPS 1989).

    H_ii is Hutchinson's estimate of the Hessian's diagonal, so a score may be below 0.
    """
    return mapped(_half_curved, scored_leaves(evidence), scored_leaves(evidence, "hessian_products"))


def hessian_of_channels(evidence: Evidence) -> Scores:
    """Sum of the weights' scores over the channel's filter: the off-diagonal Hessian is left out."""
    scores = mapped(_half_curved, made_leaves(evidence), made_leaves(evidence, "hessian_products"))
    return producer_sum(scores, evidence.groups)


def snip(evidence: Evidence) -> Scores:
    """Connection sensitivity: abs(w * g), the slope of the loss along a factor at the weight.

    Source: Lee et al., ICLR 2019, arXiv 1810.02340, Sec. 4.1, without the division by the sum of all, which changes no
    rank. The same number as ``taylor`` of a weight. A channel has the sum of its weights' scores.
    """
    return mapped(_size_of_product, scored_leaves(evidence), scored_leaves(evidence, "grads"))


def snip_of_channels(evidence: Evidence) -> Scores:
    """Sum of abs(w * g) over the channel's filter. Nothing cancels, other than in ``taylor``."""
    return producer_sum(mapped(abs, made_products(evidence)), evidence.groups)


def grasp(evidence: Evidence) -> Scores:
    """Gradient signal preservation: w * (H g), by which half the gradient's squared norm falls without the weight.

    The paper's score is S = -w * (H g), and the weights of the highest S go. Here larger means keep, so it is -S.
    Source: Wang et al., ICLR 2020, arXiv 2002.07376, Sec. 4 and Algorithm 1, which divide the logits by 200 in H and g.
    Here the loss is as it is given.
    """
    return mapped(_product, scored_leaves(evidence), scored_leaves(evidence, "hessian_gradient"))


def grasp_of_channels(evidence: Evidence) -> Scores:
    """Sum of the weights' scores over the channel's filter."""
    scores = mapped(_product, made_leaves(evidence), made_leaves(evidence, "hessian_gradient"))
    return producer_sum(scores, evidence.groups)


def synflow(evidence: Evidence) -> Scores:
    """Synaptic flow abs(w) * dR/dw, here over R: the share of R that goes through the weight.

    R is the sum of the outputs of the network with abs(w) on ones. In a network of ReLUs without biases the scores of
    each layer add up to 1. Source: Tanaka et al., NeurIPS 2020, arXiv 2006.05467, Sec. 5. Meant for
    ``config.sparsify.iterations = 100``.
    """
    return mapped(_size_of_product, scored_leaves(evidence), scored_leaves(evidence, "synflow"))


def synflow_of_channels(evidence: Evidence) -> Scores:
    """The share of R that goes through the channel: the sum over its filter."""
    scores = mapped(_size_of_product, made_leaves(evidence), made_leaves(evidence, "synflow"))
    return producer_sum(scores, evidence.groups)


def _product(w: Any, other: Any) -> Any:
    return w * other


def _size_of_product(w: Any, other: Any) -> Any:
    return abs(w * other)


def _half_curved(w: Any, curvature: Any) -> Any:
    return w * w * curvature / 2
