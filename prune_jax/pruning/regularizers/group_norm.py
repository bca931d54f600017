"""DepGraph's group norm: weight decay on coupled channels, the stronger the weaker the channel.

Source: Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023, arXiv 2301.12900, Sec. 3.4 and Eq. (5).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from prune_jax.pruning.jaxpr.groups import Group, Slice
from prune_jax.pruning.regularizers.channels import scales_of, slices_of, squared_norms, weighed
from prune_jax.pruning.regularizers.growth import halves, refuse_below
from prune_jax.pruning.regularizers.penalty import Leaves, Penalty


def group_norm(groups: Sequence[Group], *, strength: float = 1e-4, alpha: float = 16.0) -> Penalty:
    """Strength times alpha^((max - I) / (max - min)) times w, on all coupled slices of a channel.

    I is the channel's L2 norm over all kernels that make or read it and the scales of its norms. Max and min are over
    the channels of the group. The weakest channel decays ``alpha`` times as fast as the strongest one. In a group whose
    channels are all equal, all decay as the strongest.

    Args:
      groups: coupled groups that can be pruned.
      strength: the decay of the strongest channel.
      alpha: how many times as strong the decay of the weakest channel is. The paper's is 2^4.

    Returns:
      The penalty: half the sum of weight times squared norm, the weights as constants. It ends by its budget alone.

    Raises:
      ValueError: a negative strength, or an alpha below 1.
    """
    refuse_below(0, strength=strength)
    refuse_below(1, alpha=alpha)

    def slices(group: Group, leaves: Leaves) -> tuple[Slice, ...]:
        return slices_of(group, leaves, "coupled") + scales_of(group, leaves)

    def decays(group: Group, leaves: Leaves) -> jax.Array:
        return strength * shrinkage(jnp.sqrt(squared_norms(leaves, slices(group, leaves), group.size)), alpha)

    def value(_: tuple[()], leaves: Leaves) -> jax.Array:
        return halves(
            jax.lax.stop_gradient(decays(g, leaves)) * squared_norms(leaves, slices(g, leaves), g.size)
            for g in groups
        )

    def gradient(_: tuple[()], leaves: Leaves) -> dict[str, jax.Array]:
        each = {group.name: decays(group, leaves) for group in groups}
        return weighed(leaves, [(of, each[group.name]) for group in groups for of in slices(group, leaves)])

    return Penalty(groups, lambda leaves: (), lambda state, leaves, count: state, value, gradient)


def shrinkage(norms: jax.Array, alpha: float) -> jax.Array:
    """alpha^((max - I) / (max - min)) of the channels' norms I, (size,). 1 where all are equal.

    >>> [round(float(x), 3) for x in shrinkage(jnp.array([1.0, 2.0, 3.0]), 16.0)]
    [16.0, 4.0, 1.0]
    """
    most, least = norms.max(), norms.min()
    width = most - least
    return alpha ** ((most - norms) / jnp.where(width > 0, width, 1))
