"""Jacobian singular values of a network's outputs with respect to one input."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.trainability import inputs, memory
from prune_jax.trainability.passes import Apply, Passes, passes, solve
from prune_jax.trainability.singular_values import Method, check_method


def jacobians(
    apply: Apply,
    x: jax.Array,
    *,
    outputs: Sequence[int] | None = None,
    chunk: int | None = None,
    available: int | None = None,
) -> jax.Array:
    """Jacobian of every example: ``(K, batch, D)`` for K outputs and D values in one input.

    ``apply`` maps ``(batch, ...)`` to ``(batch, K)`` and must treat examples independently, as a network
    in evaluation mode does: then one batched forward pass and K pulled-back one-hot cotangents give all
    of them. ``outputs`` are the indices of the outputs wanted (default all). ``chunk`` cotangents are
    pulled back at once, which bounds memory; by default as many as fit the cache, and inside a trace, where
    each chunk is compiled apart, as many as fit memory. Give weights as ``jax.tree_util.Partial(apply, variables)``
    and later calls with other weights compile nothing. Raises ValueError, before any work, for an empty
    batch, an input that is not floating, outputs that are not rank 2, or an estimate of memory above
    ``available`` bytes (default: what the device has).
    """
    network = passes(apply)
    parts = rows(network, x, *plan(network, x, outputs, chunk, available))
    return jnp.concatenate(parts).reshape(-1, len(x), math.prod(x.shape[1:]))


def jacobian_singular_values(
    apply: Apply,
    x: jax.Array,
    *,
    outputs: Sequence[int] | None = None,
    chunk: int | None = None,
    method: Method = "auto",
    available: int | None = None,
) -> jax.Array:
    """Singular values of each example's input-output Jacobian: ``(batch, min(K, D))``, descending.

    Exact, in float32 or wider; also of a bfloat16 network. ``method`` says how far down values are
    resolved: see ``singular_values``. Other arguments and errors as ``jacobians``. Source: arXiv
    2301.05219 §5.1 and the mean JSV of its companion TPP.
    """
    return values(passes(apply), x, outputs, chunk, method, available)


def mean_jsv(apply: Apply, x: jax.Array, *, chunk: int | None = None, method: Method = "auto") -> jax.Array:
    """Mean Jacobian singular value over values and examples, a scalar.

    Arguments as ``jacobian_singular_values``.
    """
    return jnp.mean(jacobian_singular_values(apply, x, chunk=chunk, method=method))


def values(
    network: Passes,
    x: jax.Array,
    outputs: Sequence[int] | None,
    chunk: int | None,
    method: Method,
    available: int | None,
) -> jax.Array:
    """Singular values through the compiled pieces of a network; arguments as ``jacobian_singular_values``."""
    check_method(method)
    one_hot, step = plan(network, x, outputs, chunk, available)
    if step == len(one_hot):
        return network.values(x, one_hot, method)
    return solve(rows(network, x, one_hot, step), method)


def rows(network: Passes, x: jax.Array, one_hot: np.ndarray, step: int) -> list[jax.Array]:
    """The Jacobians in chunks of ``step`` rows, ``(step, batch, ...)`` each."""
    _, pull_back = network.forward(x)
    return [network.pull(pull_back, one_hot[i : i + step], len(x)) for i in range(0, len(one_hot), step)]


def plan(
    network: Passes, x: jax.Array, outputs: Sequence[int] | None, chunk: int | None, available: int | None
) -> tuple[np.ndarray, int]:
    """Cotangents to pull back, ``(K, outputs)``, and how many at once, from shapes alone; may raise ValueError."""
    inputs.check_images(x)
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is {chunk}; at least one cotangent is pulled back at once")
    logits, pull_back = network.shapes(x)
    inputs.check_logits(logits, len(x))
    chosen = inputs.chosen_outputs(outputs, logits.shape[1])
    cost = memory.need(x, pull_back, len(chosen))
    room = memory.available() if available is None else available
    step = memory.fitting_chunk(chunk, len(chosen), cost, room, len(x), cached=not _compiling())
    return np.eye(logits.shape[1], dtype=logits.dtype)[chosen], step


def _compiling() -> bool:
    return isinstance(jnp.zeros(()), jax.core.Tracer)  # inside jit, a constant is a tracer too
