"""Jacobian singular values of a network's outputs with respect to one input."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.trainability import checks, cpu, memory
from prune_jax.trainability.checks import check_measured, known_broken
from prune_jax.trainability.passes import (
    Apply,
    Finish,
    Forward,
    Passes,
    Rows,
    Shapes,
    abstract,
    chunks,
    passes,
    solve,
)
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
        chunk: cotangents that are pulled back at once, which bounds memory. By default as many as fit the cache;
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
    network = passes(apply)
    rows = wanted(network, x, outputs)
    step = plan(abstract(network, x, rows, narrow=False), chunk, available)
    parts = pulled(network, network.forward(x, rows, narrow=False), step, len(x))
    found = jnp.concatenate(parts).reshape(-1, len(x), math.prod(x.shape[1:]))
    if known_broken(found):
        check_measured(jnp.moveaxis(found, 0, 1), apply, "Jacobian")
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
        apply: as for ``jacobians``, and so ``x``, ``outputs``, ``chunk``, ``available`` and ``check``.
        x: the inputs.
        outputs: indices of the outputs wanted.
        chunk: cotangents at once.
        method: says how far down values are resolved, see ``singular_values``.
        available: bytes that may be used.
        check: look for examples that depend on one another.

    Returns:
        ``(batch, min(K, D))``, descending, in float32 or wider; also of a bfloat16 network.

    Raises:
        ValueError: as ``jacobians``, and for an unknown method.

    Example:
        >>> jacobian_singular_values(Partial(jnp.multiply, jnp.array([[1.0, 4.0]])), jnp.ones((1, 2))).tolist()
        [[4.0, 1.0]]

    Source: arXiv 2301.05219 §5.1 and the mean JSV of its companion TPP.
    """
    if check:
        checks.check_independent(apply, x)
    found = values(passes(apply), x, outputs, chunk, method, available)
    check_measured(found, apply, "Jacobian")
    return found


def mean_jsv(
    apply: Apply, x: jax.Array, *, chunk: int | None = None, method: Method = "auto", check: bool = True
) -> jax.Array:
    """Mean Jacobian singular value over values and examples.

    Args:
        apply: as for ``jacobian_singular_values``, and so the others.
        x: the inputs.
        chunk: cotangents at once.
        method: how far down values are resolved.
        check: look for examples that depend on one another.

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
    """Singular values through the compiled pieces of a network; arguments as ``jacobian_singular_values``."""
    check_method(method)
    rows = wanted(network, x, outputs)
    finish = partial(solve, count=min(len(rows), math.prod(x.shape[1:])), method=method)
    whole = partial(network.values, x, rows, method=method)
    return reduced(network, x, rows, finish, chunk=chunk, available=available, at_once=whole)


def reduced(
    network: Passes,
    x: jax.Array,
    rows: Rows,
    finish: Finish,
    *,
    chunk: int | None = None,
    available: int | None = None,
    at_once: Callable[[], jax.Array] | None = None,
) -> jax.Array:
    """What ``finish`` makes of the Jacobians of ``rows``, ``(batch, ...)``; of parts side by side where that pays.

    The linear ends are left out, see ``Passes``. ``at_once``: one program for the same, where one chunk holds all.
    """
    shapes = abstract(network, x, rows, narrow=True)
    size, threads = cpu.share(x, shapes)
    if size < len(x):
        part = jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype)
        shapes = abstract(network, part, rows, narrow=True)
    step = plan(shapes, chunk, available, threads)
    if size < len(x):
        return cpu.reduced(network, x, rows, shapes, chunks(len(shapes.made.seeds), step), finish)
    if at_once is not None and step == len(shapes.made.seeds):
        return at_once()
    made = network.forward(x, rows, narrow=True)
    return finish(pulled(network, made, step, len(x)), made.entry)


def pulled(network: Passes, made: Forward, step: int, batch: int) -> list[jax.Array]:
    """The gradients of all seeds in chunks of ``step``, ``(step, batch, ...)`` each."""
    pieces = chunks(len(made.seeds), step)
    return [network.pull(made.pull_back, made.seeds, start, step=n, batch=batch) for start, n in pieces]


def wanted(network: Passes, x: jax.Array, outputs: Sequence[int] | None) -> np.ndarray:
    """The rows of the identity, ``(c, K)``, that pick the ``outputs``; ValueError for bad input."""
    checks.check_images(x)
    logits = network.logits(x)
    checks.check_logits(logits, len(x))
    chosen = checks.chosen_outputs(outputs, logits.shape[1])
    return np.eye(logits.shape[1], dtype=logits.dtype)[chosen]


def plan(shapes: Shapes, chunk: int | None, available: int | None, threads: int = 1) -> int:
    """How many seeds to pull back at once, where ``threads`` do so side by side. May raise ValueError."""
    if chunk is not None and checks.check_whole("chunk", chunk, " of cotangents") < 1:
        raise ValueError(f"chunk is {chunk}; at least one cotangent is pulled back at once")
    seeds, cost = len(shapes.made.seeds), shapes.need
    little = cost.of(seeds) <= memory.LITTLE and seeds * cost.activation <= memory.CACHED
    if chunk is None and available is None and little:
        return seeds
    room = memory.available() if available is None else available
    cached = not isinstance(jnp.zeros(()), jax.core.Tracer)  # inside jit, a constant is a tracer too
    return memory.fitting_chunk(chunk, seeds, cost, room // threads, cached)
