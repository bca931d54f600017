"""One PRNG key after another for the layers of a network under construction."""

from typing import cast

import jax
from flax import nnx


class KeyStream:
    """The part of `nnx.Rngs` that layers use: `params()` gives the next key.

    nnx.Rngs keeps its count in an array. Under eval_shape each step of it costs time linear in
    the trace so far, and building ResNet-110 abstractly takes five times as long. This one counts
    in Python, and no layer here keeps it.
    """

    def __init__(self, key: jax.Array):
        self._key = key
        self._count = 0

    def params(self) -> jax.Array:
        """The next key, a fold of the first one by a running number."""
        self._count += 1
        return jax.random.fold_in(self._key, self._count)


def stream(key: jax.Array) -> nnx.Rngs:
    """A KeyStream from `key`, typed as what Flax's layers ask for."""
    return cast(nnx.Rngs, KeyStream(key))
