"""Network slimming: L1 on the scales of norms.

Source: Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017, arXiv 1708.06519,
Eq. (1).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.regularizers.channels import Leaves as Named
from prune_jax.pruning.regularizers.channels import scales_of, spread, wide
from prune_jax.pruning.regularizers.growth import refuse_below
from prune_jax.pruning.regularizers.penalty import Leaves, Penalty


def slimming(groups: Sequence[Group], *, strength: float = 1e-4) -> Penalty:
    """Strength times the sign of the scale of every norm that scales a group's channels one by one.

    Args:
      groups: coupled groups that can be pruned. Those without a norm are left alone.
      strength: what the sum of absolute scales is multiplied by. The paper's is 1e-4 (1e-5 for VGG on CIFAR).

    Returns:
      The penalty: strength times the sum of absolute scales. It ends by its budget alone.

    Raises:
      ValueError: a negative strength.
    """
    refuse_below(0, strength=strength)

    def value(_: tuple[()], leaves: Leaves) -> jax.Array:
        scales = [
            jnp.abs(leaf) * _where(groups, leaves, name) for name, leaf in _scales(groups, leaves).items()
        ]
        return strength * sum((scale.sum() for scale in scales), jnp.zeros(()))

    def gradient(_: tuple[()], leaves: Leaves) -> dict[str, jax.Array]:
        return {
            name: strength * jnp.sign(leaf) * _where(groups, leaves, name)
            for name, leaf in _scales(groups, leaves).items()
        }

    return Penalty(groups, lambda leaves: (), lambda state, leaves, count: state, value, gradient)


def without_scales(groups: Sequence[Group]) -> str:
    """Why there is nothing to slim. Empty where some norm scales channels one by one."""
    return "" if any(group.gains for group in groups) else "no norm scales their channels one by one"


def _scales(groups: Sequence[Group], leaves: Named) -> dict[str, jax.Array]:
    return {of.path: wide(leaves[of.path]) for group in groups for of in scales_of(group, leaves)}


def _where(groups: Sequence[Group], leaves: Named, path: str) -> jax.Array:
    """1 at the positions of a scale that belong to one of the groups, else 0."""
    found = [
        spread(jnp.ones(group.size), of, jnp.ndim(leaves[path]))
        for group in groups
        for of in scales_of(group, leaves)
        if of.path == path
    ]
    return sum(found[1:], found[0])
