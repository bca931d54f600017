"""Modules whose numbers NumPy draws. An initialiser of JAX's is compiled for every shape that it fills."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


def drawn(make, seed=0):
    """The nnx module that ``make(rngs)`` builds; its own initialisation isn't computed.

    Leaves lie between -1 and 1, those with 'var' in their path from 0.2 on. Keys are key 0, counters 0.
    """
    graph, state = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    rng = np.random.default_rng(seed)

    def number(path, leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.broadcast_to(jax.random.key(0), leaf.shape)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jax.device_put(np.zeros(leaf.shape, leaf.dtype))
        low = 0.2 if "var" in jax.tree_util.keystr(path) else -1.0
        return jax.device_put(
            rng.uniform(low, 1.0, leaf.shape).astype(leaf.dtype)
        )  # asarray compiles for each shape

    return nnx.merge(graph, jax.tree_util.tree_map_with_path(number, state))
