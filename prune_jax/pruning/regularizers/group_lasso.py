"""Group lasso: the sum of the norms of channels, which sets whole channels to zero.

Source: Wen et al., Learning Structured Sparsity in Deep Neural Networks (SSL), NIPS 2016, arXiv 1608.03665, Eq. (2).
The proximal step is the closed form of Yuan & Lin, 2006.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.regularizers.channels import (
    refuse_over,
    slices_of,
    spread,
    squared_norms,
    weighed,
    wide,
)
from prune_jax.pruning.regularizers.growth import refuse_below
from prune_jax.pruning.regularizers.penalty import Leaves, Penalty


def group_lasso(groups: Sequence[Group], *, strength: float = 1e-4, over: str = "producer") -> Penalty:
    """SSL by its subgradient: strength times w / norm(w of the channel), and 0 where the channel is 0.

    Args:
      groups: coupled groups that can be pruned.
      strength: what the sum of norms is multiplied by. The paper tunes it for each network. The default is ours.
      over: 'producer', the weights that make a channel, as published. Or 'coupled', all kernels that make or read it,
        of which one norm is taken.

    Returns:
      The penalty: strength times the sum of the channels' L2 norms. It ends by its budget alone.

    Raises:
      ValueError: a negative strength, or another word for ``over``.
    """
    refuse_below(0, strength=strength)
    refuse_over(over)

    def norms(leaves: Leaves, group: Group) -> jax.Array:
        return _root(squared_norms(leaves, slices_of(group, leaves, over), group.size))

    def gradient(_: tuple[()], leaves: Leaves) -> dict[str, jax.Array]:
        each = {group.name: _inverse(norms(leaves, group)) for group in groups}
        return weighed(
            leaves,
            [(of, strength * each[group.name]) for group in groups for of in slices_of(group, leaves, over)],
        )

    return Penalty(
        groups,
        lambda leaves: (),
        lambda state, leaves, count: state,
        lambda state, leaves: strength * sum((norms(leaves, g).sum() for g in groups), jnp.zeros(())),
        gradient,
    )


def group_lasso_proximal(groups: Sequence[Group], *, strength: float = 1e-4) -> Penalty:
    """SSL by its proximal step: after the optimiser's step, each channel's norm shrinks by lr times strength, to 0.

    Channels do become exactly 0. The closed form holds for groups of weights that don't overlap, so a channel is the
    weights that make it.

    Args:
      groups: coupled groups that can be pruned.
      strength: as for ``group_lasso``.

    Returns:
      The penalty, with ``prox``: w times max(0, 1 - lr strength / norm(w of the channel)).

    Raises:
      ValueError: a negative strength.
    """
    smooth = group_lasso(groups, strength=strength)

    def prox(_: tuple[()], leaves: Leaves, lr: float | jax.Array) -> dict[str, jax.Array]:
        out: dict[str, jax.Array] = {}
        for group in groups:
            (of,) = slices_of(group, leaves, "producer")
            leaf = wide(out.get(of.path, leaves[of.path]))
            norm = _root(squared_norms({of.path: leaf}, (of,), group.size))
            lost = jnp.minimum(1.0, lr * strength * _inverse(norm))
            out[of.path] = leaf * (1 - spread(lost, of, leaf.ndim))
        return {name: leaf.astype(leaves[name].dtype) for name, leaf in out.items()}

    return smooth._replace(prox=prox)


def _root(squares: jax.Array) -> jax.Array:
    """Square root whose derivative at 0 is 0."""
    there = squares > 0
    return jnp.where(there, jnp.sqrt(jnp.where(there, squares, 1)), 0)


def _inverse(norms: jax.Array) -> jax.Array:
    """1 / norm, and 0 for a norm of 0."""
    return jnp.where(norms > 0, 1 / jnp.where(norms > 0, norms, 1), 0)
