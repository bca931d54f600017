"""Jacobian singular values of a network's outputs with respect to one input."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Apply = Callable[[jax.Array], jax.Array]


def jacobians(apply: Apply, x: jax.Array, *, chunk: int | None = None) -> jax.Array:
    """Jacobian of every example: ``(K, batch, D)`` for K outputs and D values in one input.

    ``apply`` maps ``(batch, ...)`` to ``(batch, K)`` and must treat examples independently, as a network
    in evaluation mode does: then one batched forward pass and K pulled-back one-hot cotangents give all
    of them. ``chunk`` cotangents are pulled back at once (default all), which bounds memory. Raises
    ValueError for an empty batch, an input that is not floating, or outputs that are not rank 2.
    """
    _check_input(x)
    logits, pull_back = jax.vjp(apply, x)
    if logits.ndim != 2:
        raise ValueError(
            f"apply returned shape {logits.shape}; Jacobian singular values need (batch, outputs): "
            "flatten or reduce the other axes inside apply"
        )
    batch, outputs = logits.shape
    one_hot = jnp.broadcast_to(jnp.eye(outputs, dtype=logits.dtype)[:, None], (outputs, batch, outputs))
    step = chunk or outputs
    parts = [jax.vmap(pull_back)(one_hot[i : i + step])[0] for i in range(0, outputs, step)]
    return jnp.concatenate(parts).reshape(outputs, batch, -1)


def jacobian_singular_values(apply: Apply, x: jax.Array, *, chunk: int | None = None) -> jax.Array:
    """Singular values of each example's input-output Jacobian: ``(batch, min(K, D))``, descending.

    They are the roots of the eigenvalues of the smaller Gram matrix, formed and solved in at least
    float32 at full matrix-product precision. A Gram matrix squares the condition number, so in float32
    values below about 3e-4 of the largest one are not resolved; their mean is unaffected. Arguments and
    errors as ``jacobians``. Source: arXiv 2301.05219 §5.1 and the mean JSV of its companion TPP.
    """
    jacobian = jacobians(apply, x, chunk=chunk)
    jacobian = jacobian.astype(jnp.promote_types(jacobian.dtype, jnp.float32))
    outputs, _, inputs = jacobian.shape
    spec = "kbd,lbd->bkl" if outputs <= inputs else "kbd,kbe->bde"
    gram = jnp.einsum(spec, jacobian, jacobian, precision=jax.lax.Precision.HIGHEST)
    eigenvalues = jnp.linalg.eigvalsh(gram)
    return jnp.sqrt(jnp.maximum(eigenvalues, 0.0))[:, ::-1]


def mean_jsv(apply: Apply, x: jax.Array, *, chunk: int | None = None) -> jax.Array:
    """Mean Jacobian singular value over values and examples, a scalar. Arguments as ``jacobians``."""
    return jnp.mean(jacobian_singular_values(apply, x, chunk=chunk))


def _check_input(x: jax.Array) -> None:
    if x.ndim < 2 or x.shape[0] == 0:
        raise ValueError(
            f"x has shape {x.shape}; it needs at least one example along axis 0 and one more axis"
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"x has dtype {x.dtype}; a Jacobian needs floating inputs: normalise the images first"
        )
