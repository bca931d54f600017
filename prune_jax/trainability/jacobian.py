"""Jacobian singular values of a network's outputs with respect to one input."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.trainability.singular_values import Method, singular_values

Apply = Callable[[jax.Array], jax.Array]


def jacobians(
    apply: Apply, x: jax.Array, *, outputs: Sequence[int] | None = None, chunk: int | None = None
) -> jax.Array:
    """Jacobian of every example: ``(K, batch, D)`` for K outputs and D values in one input.

    ``apply`` maps ``(batch, ...)`` to ``(batch, K)`` and must treat examples independently, as a network
    in evaluation mode does: then one batched forward pass and K pulled-back one-hot cotangents give all
    of them. ``outputs`` are the indices of the outputs wanted (default all). ``chunk`` cotangents are
    pulled back at once (default all), which bounds memory. Raises ValueError for an empty batch, an input
    that is not floating, or outputs that are not rank 2.
    """
    _check_input(x)
    logits, pull_back = jax.vjp(apply, x)
    if logits.ndim != 2:
        raise ValueError(
            f"apply returned shape {logits.shape}; Jacobian singular values need (batch, outputs): "
            "flatten or reduce the other axes inside apply"
        )
    batch, count = logits.shape
    chosen = np.arange(count) if outputs is None else _check_outputs(outputs, count)
    one_hot = jnp.asarray(np.eye(count)[chosen], logits.dtype)[:, None]
    one_hot = jnp.broadcast_to(one_hot, (len(chosen), batch, count))
    step = chunk or len(chosen)
    parts = [jax.vmap(pull_back)(one_hot[i : i + step])[0] for i in range(0, len(chosen), step)]
    return jnp.concatenate(parts).reshape(len(chosen), batch, -1)


def jacobian_singular_values(
    apply: Apply,
    x: jax.Array,
    *,
    outputs: Sequence[int] | None = None,
    chunk: int | None = None,
    method: Method = "auto",
) -> jax.Array:
    """Singular values of each example's input-output Jacobian: ``(batch, min(K, D))``, descending.

    Exact, in float32 or wider. ``method`` says how far down values are resolved: see ``singular_values``.
    Other arguments and errors as ``jacobians``. Source: arXiv 2301.05219 §5.1 and the mean JSV of its
    companion TPP.
    """
    return singular_values(jacobians(apply, x, outputs=outputs, chunk=chunk), method)


def mean_jsv(apply: Apply, x: jax.Array, *, chunk: int | None = None, method: Method = "gram") -> jax.Array:
    """Mean Jacobian singular value over values and examples, a scalar. Arguments as ``jacobians``.

    The default method is the cheapest: what it doesn't resolve is too small to move the mean.
    """
    return jnp.mean(jacobian_singular_values(apply, x, chunk=chunk, method=method))


def _check_input(x: jax.Array) -> None:
    if x.ndim < 2 or x.shape[0] == 0:
        raise ValueError(
            f"x has shape {x.shape}; it needs at least one example along axis 0 and one more axis"
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"x has dtype {x.dtype}; a Jacobian needs floating inputs: normalise the images first"
        )


def _check_outputs(outputs: Sequence[int], count: int) -> np.ndarray:
    chosen = np.asarray(outputs)
    if chosen.ndim != 1 or not chosen.size or not np.issubdtype(chosen.dtype, np.integer):
        raise ValueError(f"outputs is {outputs!r}; it needs a non-empty list of output indices")
    wrong = chosen[(chosen < 0) | (chosen >= count)]
    if wrong.size:
        raise ValueError(f"output {wrong[0]} is not among the {count} outputs 0 to {count - 1} of apply")
    if len(set(chosen.tolist())) < chosen.size:
        raise ValueError(f"outputs {outputs!r} names an output twice")
    return chosen
