"""Criteria that look at the norm that normalises a channel.

A norm is known by what it does: its scale multiplies the channels one by one (``Group.gains``). Of several, as on a
residual stream, the first that the program meets counts, which is the one behind the producer.
"""

from prune_jax.pruning.criteria.weights import (
    Scores,
    made_leaves,
    made_products,
    mapped,
    producer_mean,
    producer_sum,
    prunable,
)
from prune_jax.pruning.evidence import Evidence
from prune_jax.pruning.jaxpr.groups import Group


def bn_scale(evidence: Evidence) -> Scores:
    """Absolute scale of the norm that normalises the channel. Groups without a norm have no score.

    Source: Liu et al., ICCV 2017, arXiv 1708.06519, Sec. 3.
    """
    scales = [_at(group, group.gains[0].scale) for group in _normed(evidence)]
    return producer_mean(mapped(abs, made_leaves(evidence._replace(groups=scales))), scales)


def taylor_gate(evidence: Evidence) -> Scores:
    """abs(scale * g_scale + bias * g_bias) of the norm that normalises the channel, g the mean gradient of the loss.

    It is abs(dL/dz) at z = 1 of a gate z behind the norm: the change of the loss, to first order, when the channel is
    set to 0. Groups without a norm have no score. Source: Molchanov et al., CVPR 2019, arXiv 1906.10771, Sec. 3.2. The
    paper squares dL/dz for each batch and adds up. Here g is the mean gradient first.
    """
    scales = [_at(group, group.gains[0].scale) for group in _normed(evidence)]
    shifts = [_at(group, group.gains[0].shift) for group in _normed(evidence) if group.gains[0].shift]
    total = producer_sum(made_products(evidence._replace(groups=scales)), scales)
    added = producer_sum(made_products(evidence._replace(groups=shifts)), shifts)
    return {name: abs(number + added[name] if name in added else number) for name, number in total.items()}


def without_norm(group: Group) -> str:
    """Why a group's channels have no norm's scale. Empty where they have one."""
    return "" if group.gains else "no norm scales its channels one by one"


def without_gate(group: Group) -> str:
    """Why no gate can be read off a group's norm. Empty where it can."""
    if group.gains and group.gains[0].shift == "":
        return f"what is added behind {group.gains[0].scale!r} is no parameter by itself"
    return without_norm(group)


def _normed(evidence: Evidence) -> list[Group]:
    return [group for group in prunable(evidence.groups) if group.gains]


def _at(group: Group, path: str | None) -> Group:
    """The group as if this leaf made its channels."""
    return group._replace(producer=next(member for member in group.members if member.path == path))
