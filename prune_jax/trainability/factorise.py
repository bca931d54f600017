"""LAPACK on a batch of matrices, one matrix to a call on a CPU.

Given a batch, jaxlib (seen with 0.10.2) hands parts of it to XLA's thread pool and waits for them, often on a
thread of that pool: with as many such calls at once as the pool has threads, independent ones in one program or
one on each CPU device, all of them wait for ever. A single matrix is factorised on the spot. Where batches
are large and matrices small, the loop costs nothing that could be measured.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax


def each(function: Callable[[jax.Array], Any], matrices: jax.Array) -> Any:
    """``function`` of each matrix of ``(..., m, n)``; results keep the leading axes.

    ``function`` must take leading axes as ``jnp.linalg`` does: accelerators give it all matrices at once.
    Differentiable where it is. Under a ``vmap`` from outside, the mapped axis remains a batch.
    """
    leading = matrices.shape[:-2]
    if math.prod(leading) <= 1:
        return function(matrices)
    flat = matrices.reshape(math.prod(leading), *matrices.shape[-2:])
    found = jax.lax.platform_dependent(flat, cpu=partial(jax.lax.map, function), default=function)
    return jax.tree.map(lambda leaf: leaf.reshape(*leading, *leaf.shape[1:]), found)
