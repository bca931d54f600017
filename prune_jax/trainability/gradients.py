"""How fast the loss falls along its own gradient, and how that speed changes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from prune_jax.trainability.weights import at_least_float32, check_weights

Loss = Callable[[Any], jax.Array]


class GradientFlow(NamedTuple):
    """Scalars of one loss at one point.

    norm: ||g||. flow: g^T g, the rate -dL/dt at which the loss falls under gradient flow
    d(params)/dt = -g. curvature: g^T H g; along the flow, d(g^T g)/dt = -2 g^T H g.
    """

    norm: jax.Array
    flow: jax.Array
    curvature: jax.Array


def gradient_flow(loss: Loss, params: Any) -> GradientFlow:
    """Gradient norm, gradient flow g^T g and g^T H g of ``loss(params) -> scalar``, H its Hessian.

    To first order a perturbation d of the weights changes g^T g by 2 d^T H g; GraSP prunes by d = -weights.
    Source: Wang et al., 2020, arXiv 2002.07376. H is never formed: one gradient and one
    Hessian-vector product, together about four times the cost of the loss's forward and backward pass.
    Products accumulate in float32 or better. Raises ValueError for a loss that is not a scalar, and for a
    leaf that is not floating or (outside jit) not finite, by name.
    """
    check_weights(params)
    gradient, product = _gradient_and_product(loss, params)
    flow = _dot(gradient, gradient)
    return GradientFlow(jnp.sqrt(flow), flow, _dot(gradient, product))


def hessian_vector_product(loss: Loss, params: Any, vector: Any) -> Any:
    """H v for the Hessian H of ``loss`` at ``params``; ``vector`` and the result have their structure.

    Forward over reverse differentiation (Pearlmutter, 1994). Raises ValueError as ``gradient_flow``, and for a
    vector of another structure, shape or type.
    """
    check_weights(params)
    needed, given = (_leaves(tree) for tree in (params, vector))
    if needed != given:
        raise ValueError(f"vector holds {given[1]}, but params {needed[1]}: H v needs the same leaves")
    return jax.jvp(jax.grad(_scalar(loss)), (params,), (vector,))[1]


def _leaves(tree: Any) -> tuple[Any, list[str]]:
    """The structure of a tree, and the type and shape of its leaves."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}" for leaf in leaves]


def _gradient_and_product(loss: Loss, params: Any) -> tuple[Any, Any]:
    slope = jax.grad(_scalar(loss))
    gradient = slope(params)
    return gradient, jax.jvp(slope, (params,), (gradient,))[1]


def _scalar(loss: Loss) -> Loss:
    def checked(params: Any) -> jax.Array:
        value = loss(params)
        if jnp.shape(value) != ():
            raise ValueError(f"loss returned shape {jnp.shape(value)}; it must be a scalar: take the mean")
        return value

    return checked


def _dot(a: Any, b: Any) -> jax.Array:
    def product(x: jax.Array, y: jax.Array) -> jax.Array:
        x, y = at_least_float32(x), at_least_float32(y)
        return jnp.vdot(x, y, precision=jax.lax.Precision.HIGHEST)

    return jax.tree.reduce(jnp.add, jax.tree.map(product, a, b))
