"""Ways round XLA:CPU's weak spots. ``tests/trainability/test_workarounds.py`` warns where one can go."""

import contextlib
import functools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from prune_jax.trainability import memory

# Each way round, and the jaxlib with which it was seen to be needed.
SEEN = {
    "each: LAPACK's calls on batches may wait for one another for ever": "0.10.2",
    "reduced: the gradients of a convolution leave cores idle": "0.10.2",
    "reduced: LAPACK's own threads wait on cores that the parts need": "0.10.2",
    "alone: LAPACK's own threads wait on cores that other work has": "0.10.2",
    "passes: the gradient of a convolution is slow inside a compiled loop": "0.10.2",
}
# Bytes of one seed's gradients at the largest activation of a part: half as many made ResNet-56 slower, twice as
# many no faster, at more memory.
PART = 2**19
# LAPACK's block: a QR of no more columns is made of products of a matrix and a vector, to which threads add little.
FEW = 32
Pieces = list[tuple[int, int]]  # where each chunk of seeds starts, and how many it holds


def each(function: Callable[[jax.Array], Any], matrices: jax.Array) -> Any:
    """``function`` of each matrix of ``(..., m, n)``. Results keep the leading axes.

    Given a batch, jaxlib hands parts of it to XLA's thread pool and waits for them, often on a thread of that pool:
    with as many such calls at once as the pool has threads, independent ones in one program or one on each CPU
    device, all of them wait for ever. A single matrix is factorised on the spot. Where batches are large and
    matrices small, the loop costs nothing that could be measured.
    ``function`` must take leading axes as ``jnp.linalg`` does: accelerators give it all matrices at once.
    Differentiable where it is. Under a ``vmap`` from outside, the mapped axis remains a batch.
    """
    leading = matrices.shape[:-2]
    if math.prod(leading) <= 1:
        return function(matrices)
    flat = matrices.reshape(math.prod(leading), *matrices.shape[-2:])
    found = jax.lax.platform_dependent(flat, cpu=partial(jax.lax.map, function), default=function)
    return jax.tree.map(lambda leaf: leaf.reshape(*leading, *leaf.shape[1:]), found)


def share(x: jax.Array, shapes: Any) -> tuple[int, int]:
    """Examples of a part, and how many parts are worked on at once: (batch, 1) where it stays whole.

    XLA:CPU keeps about one and a half of two cores busy with the gradients of a convolution. Two parts at a time
    fill them, and hold the forward pass of a few examples only. A batch stays whole on accelerators, under a trace,
    where it is spread over devices already, and where all seeds of all examples fit the cache at once.
    """
    whole = (len(x), 1)
    devices = getattr(getattr(x, "sharding", None), "device_set", ())
    if jax.default_backend() != "cpu" or len(devices) > 1 or min(len(x), _cores()) == 1:
        return whole
    activation = shapes.need.activation
    if activation * len(shapes.made.seeds) <= memory.CACHED or traced():
        return whole
    rounds = max(1, round(activation / (PART * _cores())))
    threads = min(_cores(), len(x))
    return math.ceil(len(x) / (rounds * threads)), threads


def reduced(network: Any, x: jax.Array, rows: Any, shapes: Any, pieces: Pieces, finish: Any) -> jax.Array:
    """``finish`` of all examples' Jacobians, in parts of ``shapes`` (see ``passes``), ``pieces`` of seeds at once.

    Compiled here, where the configuration of the calling thread holds. The threads only run what was compiled.
    The last part overlaps the one before, so that all have one shape. LAPACK keeps to one thread meanwhile: its
    own would wait for more work on the cores that the parts need.
    """
    made, size = shapes.made, len(shapes.entered)
    parts = [x[min(start, len(x) - size) :][:size] for start in range(0, len(x), size)]
    forward = compiled(network.forward, parts[0], rows, narrow=True)
    pull = {
        n: compiled(network.pull, made.pull_back, made.seeds, 0, step=n, batch=size)
        for n in {n for _, n in pieces}
    }
    rows_of = [jax.ShapeDtypeStruct((n, *shapes.entered.shape), shapes.entered.dtype) for _, n in pieces]
    solve = compiled(finish, rows_of, made.entry)
    wide = bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]

    def one(part: jax.Array) -> jax.Array:
        with jax.enable_x64(wide):
            done = forward(part, rows)
            found = solve([pull[n](done.pull_back, done.seeds, i) for i, n in pieces], done.entry)
            return jax.block_until_ready(found)  # before the next part takes memory

    with _one_blas_thread(), ThreadPoolExecutor(_cores()) as pool:
        found = list(pool.map(one, parts))
    again = len(parts) * size - len(x)
    return jnp.concatenate([*found[:-1], found[-1][again:]])


def alone(function: Callable[[], jax.Array], seeds: int, entry: int = 0) -> jax.Array:
    """What ``function`` makes of Jacobians of so many rows, with LAPACK on one thread where they are few.

    LAPACK's own threads spin while they wait for one another. Where other processes had the cores, the values of MLP-7
    (batch 100, K = 10) took 2.2 s by them and 0.1 s without, and 306 against 10 ms of CPU time. The one factor of the
    first linear map has ``entry`` columns. It may be four times as wide.
    """
    if max(seeds, entry / 4) > FEW or jax.default_backend() != "cpu":
        return function()
    with _one_blas_thread():
        found = function()
        return found if isinstance(found, jax.core.Tracer) else jax.block_until_ready(found)


def compiled(function: Callable[..., Any], *arguments: Any, **static: Any) -> Callable[..., Any]:
    """A compiled piece for arguments like these (abstract ones will do), to be called without the static ones.

    JAX remembers what it compiled: a piece that has run at these shapes isn't compiled again, nor the reverse.
    """
    target, given = bare(function)
    static |= getattr(function, "keywords", {})
    return partial(target.lower(*given, *arguments, **static).compile(), *given)


def bare(function: Callable[..., Any]) -> tuple[Any, tuple[Any, ...]]:
    """A jitted function, and the arguments that a ``partial`` of it holds."""
    return getattr(function, "func", function), getattr(function, "args", ())


def traced() -> bool:
    """Whether the caller is inside a trace: a jit, vmap or gradient from outside, which other threads don't see."""
    with ThreadPoolExecutor(1) as pool:
        outside = pool.submit(core.get_opaque_trace_state, convention="nnx").result()
    return core.get_opaque_trace_state(convention="nnx") != outside


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _one_blas_thread() -> contextlib.AbstractContextManager[object]:
    """Without threadpoolctl, which is of the extra [experiments], the numbers are the same and come later."""
    try:
        return _blas().limit(limits=1, user_api="blas")
    except ImportError:
        return contextlib.nullcontext()


@functools.cache  # a memo: to look for the libraries takes as long as to measure an MLP
def _blas() -> Any:
    import scipy.linalg  # noqa: F401  whose LAPACK jaxlib calls: so it is among those that are found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
