"""The outputs' tangent space that all examples share: its leading directions, and often far fewer than K.

Logits come out of a last linear layer, so every Jacobian is J = W F with the same W (K, features): of rank
``features`` at most, 64 for ResNet-56 whatever K. Within the column space of W the spectrum without its zeros
takes ``features`` pull-backs where it took K, and random probes meet no null space. And a trained network's
Jacobians share their leading directions as well.
"""

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from prune_jax.trainability.operators import Apply, Jacobian


def push_random(jacobian: Jacobian, key: jax.Array) -> jax.Array:
    """One random tangent of every example pushed forward: (batch, K), one product for each example."""
    tangents = jax.random.normal(key, (1, jacobian.batch, jacobian.inputs), jacobian.dtype)
    return jacobian.push(tangents)[0]


def output_directions(samples: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Orthonormal output directions (K, K) and the weights, descending, of the first min(K, m).

    ``samples`` (m, K) are pushed forward at random: their second moment is the mean of J Jᵀ over the examples,
    and its eigenvectors are the directions. The outputs' rank is the number of weights that stand out from
    rounding, if that is fewer than there are samples.
    """
    directions, weights, _ = jnp.linalg.svd(samples.T, full_matrices=True)
    return directions, weights


def within(apply: Apply, directions: jax.Array) -> Partial:
    """``apply`` with its outputs taken along orthonormal ``directions`` (K, m): (batch, m).

    Its Jacobians have the singular values of ``apply``'s without zeros, where the directions span all outputs
    that move.
    """
    inner = apply if isinstance(apply, Partial) else Partial(lambda x: apply(x))
    return Partial(_within, inner, directions)


def _within(apply: Partial, directions: jax.Array, x: jax.Array) -> jax.Array:
    logits = apply(x)
    return jnp.matmul(logits, directions.astype(logits.dtype), precision=jax.lax.Precision.HIGHEST)
