"""How much memory a Jacobian takes, known before any work is done."""

import math
from pathlib import Path
from typing import NamedTuple

import jax

from prune_jax.trainability.passes import Shapes

# Live tensors of the largest activation's size per cotangent, at most: what XLA:CPU allots to the backward
# pass of convolutional networks with batch norm and shortcuts when several cotangents are pulled back at once.
LIVE = 12
# Copies of the Jacobian while it is solved: as pulled back, scaled, and in float64 (twice the size).
COPIES = 4
# Bytes up to which the largest activation's gradients of one chunk run at full speed on a CPU: above, those of
# ResNet-20 and ResNet-56 took 20 % to 40 % longer (cache), below nothing was gained.
CACHED = 2 * 2**20
# Bytes that nothing running JAX is short of: the system is not asked, which takes as long as measuring an MLP.
# Less than ``LIVE * CACHED``, so that all cotangents fit the cache as well.
LITTLE = 2**24


class Need(NamedTuple):
    """Bytes that measuring a ``batch`` takes: ``fixed + chunk * per_cotangent``, and its largest activation's."""

    fixed: int
    per_cotangent: int
    activation: int
    batch: int


def need(shapes: Shapes) -> Need:
    """Estimate from shapes alone.

    Residuals of the forward pass and the Jacobian itself are exact. A backward pass is taken to hold at most
    ``LIVE`` tensors of the size of the largest residual, or of what it ends at.
    """
    entered, seeds = shapes.entered, shapes.made.seeds
    width = max(entered.dtype.itemsize, 4)
    leaves = jax.tree.leaves(shapes.made.pull_back)
    residuals = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    activation, size = width * shapes.largest, math.prod(entered.shape)
    fixed = residuals + COPIES * len(seeds) * size * width
    return Need(fixed, LIVE * max(activation, size * width), activation, len(entered))


def fitting_chunk(wanted: int | None, outputs: int, cost: Need, available: int, cached: bool = True) -> int:
    """Cotangents to pull back at once: ``wanted``, or as many as memory and, if ``cached``, a CPU's cache take.

    That default divides ``outputs``, so that one program serves all chunks. Raises ValueError when memory
    doesn't hold the chunk wanted, or not a single cotangent; names what would fit.
    """
    room = (available - cost.fixed) // cost.per_cotangent
    if room < 1:
        fits = cost.batch * available // (cost.fixed + cost.per_cotangent)
        raise ValueError(
            f"the Jacobians of {cost.batch} examples with {outputs} outputs need about "
            f"{gib(cost.fixed + cost.per_cotangent)} even with chunk=1 and {gib(available)} are available: "
            + (f"use batches of {fits}" if fits else "measure fewer outputs, or use a matrix-free estimate")
        )
    if wanted is not None and min(wanted, outputs) > room:
        raise ValueError(
            f"chunk={wanted} needs about {gib(cost.fixed + min(wanted, outputs) * cost.per_cotangent)} "
            f"and {gib(available)} are available: use chunk={room} or less"
        )
    if wanted is not None:
        return min(wanted, outputs)
    cached = cached and jax.default_backend() == "cpu"
    limit = min(room, max(1, CACHED // cost.activation)) if cached else room
    return max(d for d in range(1, outputs + 1) if outputs % d == 0 and d <= limit)


def available() -> int:
    """Bytes that the default device can still give; on CPU what the system, or its container, has left."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    found = [_meminfo(), _container()]
    return min([size for size in found if size is not None], default=2**62)


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), None)


def _container() -> int | None:
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        return None if limit == "max" else int(limit) - int((group / "memory.current").read_text())
    except OSError:
        return None


def gib(size: int) -> str:
    """A number of bytes as messages say it."""
    return f"{size / 2**30:.3g} GiB"
