"""Jacobian singular values of a network's outputs with respect to one input."""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from prune_jax.trainability import checks, passes
from prune_jax.trainability.passes import Apply, Passes
from prune_jax.trainability.singular_values import Method, check_method


def jacobians(
    apply: Apply,
    x: jax.Array,
    *,
    outputs: Sequence[int] | None = None,
    chunk: int | None = None,
    available: int | None = None,
    check: bool = True,
) -> jax.Array:
    """Jacobian of every example: K pulled-back one-hot cotangents after one batched forward pass.

    Args:
        apply: maps ``(batch, ...)`` to ``(batch, K)`` and treats examples independently, as a network in
            evaluation mode does. Give weights as ``jax.tree_util.Partial(apply, variables)``: calls with other
            weights then compile nothing.
        x: ``(batch, ...)``, floating.
        outputs: indices of the outputs wanted, by default all.
        chunk: cotangents that are pulled back at once, which bounds memory. By default as many as fit the cache, or
            inside a trace, where each chunk is compiled apart, as many as fit memory.
        available: bytes that may be used, by default what the device has.
        check: refuse examples that depend on one another, by forward passes of one example and of two. A trace
            hides the numbers, so inside one it is passed over.

    Returns:
        ``(K, batch, D)`` for D values in one input, in the format of ``x``.

    Raises:
        ValueError: before any work, for an empty batch, an input not floating, outputs not of rank 2, more memory than
            ``available``, or with ``check`` dependent examples. After it, outside a ``jit``, for Jacobians that aren't
            finite, by the leaf of a ``Partial`` or else by the example.

    Example:
        >>> jacobians(lambda x: x @ jnp.array([[2.0], [3.0]]), jnp.ones((1, 2))).tolist()
        [[[2.0, 3.0]]]
    """
    if check:
        checks.check_independent(apply, x)
    network = passes.passes(apply)
    rows = passes.wanted(network, x, outputs)
    step = passes.plan(passes.abstract(network, x, rows, narrow=False), chunk, available)
    parts = passes.pulled(network, network.forward(x, rows, narrow=False), step, len(x))
    found = jnp.concatenate(parts).reshape(-1, len(x), math.prod(x.shape[1:]))
    if checks.known_broken(found):
        checks.check_measured(jnp.moveaxis(found, 0, 1), apply, "Jacobian")
    return found


def jacobian_singular_values(
    apply: Apply,
    x: jax.Array,
    *,
    outputs: Sequence[int] | None = None,
    chunk: int | None = None,
    method: Method = "auto",
    available: int | None = None,
    check: bool = True,
) -> jax.Array:
    """Singular values of each example's Jacobian, exact.

    Args:
        apply, x, outputs, chunk, available, check: as for ``jacobians``.
        method: says how far down values are resolved, see ``singular_values``.

    Returns:
        ``(batch, min(K, D))``, descending, in float32 or wider, also of a bfloat16 network.

    Raises:
        ValueError: as ``jacobians``, and for an unknown method.

    Example:
        >>> jacobian_singular_values(Partial(jnp.multiply, jnp.array([[1.0, 4.0]])), jnp.ones((1, 2))).tolist()
        [[4.0, 1.0]]

    Source: arXiv 2301.05219 §5.1 and the mean JSV of its companion TPP.
    """
    if check:
        checks.check_independent(apply, x)
    found = values(passes.passes(apply), x, outputs, chunk, method, available)
    checks.check_measured(found, apply, "Jacobian")
    return found


def mean_jsv(
    apply: Apply, x: jax.Array, *, chunk: int | None = None, method: Method = "auto", check: bool = True
) -> jax.Array:
    """Mean Jacobian singular value over values and examples.

    Args:
        apply, x, chunk, method, check: as for ``jacobian_singular_values``.

    Returns:
        A scalar, float32 or wider. It has derivatives, so it can be a regulariser.

    Raises:
        ValueError: as ``jacobian_singular_values``.

    Example:
        >>> float(mean_jsv(Partial(jnp.multiply, jnp.array([[1.0, 4.0]])), jnp.ones((1, 2))))
        2.5
    """
    return jnp.mean(jacobian_singular_values(apply, x, chunk=chunk, method=method, check=check))


def values(
    network: Passes,
    x: jax.Array,
    outputs: Sequence[int] | None,
    chunk: int | None,
    method: Method,
    available: int | None,
) -> jax.Array:
    """Singular values through the compiled pieces of a network."""
    check_method(method)
    rows = passes.wanted(network, x, outputs)
    finish = partial(passes.solve, count=min(len(rows), math.prod(x.shape[1:])), method=method)
    at_once = partial(network.values, x, rows, method=method)
    return passes.reduced(network, x, rows, finish, chunk=chunk, available=available, at_once=at_once)
