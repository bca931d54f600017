"""Parts of a batch on threads of their own, one a core, where the device is a CPU.

XLA:CPU keeps about one and a half of two cores busy with the gradients of a convolution. Two parts of the batch
at a time fill them, and hold the forward pass of a few examples only.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from threadpoolctl import threadpool_limits

from prune_jax.trainability import memory
from prune_jax.trainability.passes import Finish, Passes, Shapes, chunks, compiled

# Bytes of one seed's gradients at the largest activation of a part: half as many made ResNet-56 slower, twice as
# many no faster, at more memory.
PART = 2**19


def share(x: jax.Array, shapes: Shapes) -> tuple[int, int]:
    """Examples of a part, and how many parts are worked on at once: (batch, 1) where it stays whole.

    It does on accelerators, under a trace, where the batch is spread over devices already, and where all seeds
    of all examples fit the cache at once.
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


def reduced(
    network: Passes, x: jax.Array, rows: np.ndarray, shapes: Shapes, step: int, finish: Finish, narrow: bool
) -> jax.Array:
    """``finish`` of all examples' Jacobians, in parts of ``shapes``, ``step`` seeds at once.

    Compiled here, where the configuration of the calling thread holds; the threads only run what was compiled.
    The last part overlaps the one before, so that all have one shape. LAPACK keeps to one thread meanwhile: its
    own would wait for more work on the cores that the parts need.
    """
    made, size = shapes.made, len(shapes.entered)
    pieces = chunks(len(made.seeds), step)
    parts = [x[min(start, len(x) - size) :][:size] for start in range(0, len(x), size)]
    forward = compiled(network.forward, parts[0], rows, narrow=narrow)
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

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(_cores()) as pool:
        found = list(pool.map(one, parts))
    again = len(parts) * size - len(x)
    return jnp.concatenate([*found[:-1], found[-1][again:]])


def traced() -> bool:
    """Whether the caller is inside a trace: a jit, vmap or gradient from outside, which other threads don't see."""
    with ThreadPoolExecutor(1) as pool:
        outside = pool.submit(core.get_opaque_trace_state, convention="nnx").result()
    return core.get_opaque_trace_state(convention="nnx") != outside


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
