"""Batch norm as PyTorch computes it."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

_MOMENTUM = 0.1
_EPSILON = 1e-5


class BatchNorm(nnx.Module):
    """Normalises (..., width) over all axes but the last, then scales and shifts.

    `torch.nn.BatchNorm2d` to the letter: running statistics move by 0.1 towards those of the
    batch, the running variance towards the unbiased one (nnx.BatchNorm records the biased), the
    batch is divided by its biased one, epsilon is 1e-5. Scale starts at `scale`, shift at 0.
    Statistics are computed in float32 or better.
    """

    def __init__(self, width: int, *, scale: float = 1.0):
        self.scale = nnx.Param(jnp.full((width,), scale, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((width,), jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros((width,), jnp.float32))
        self.var = nnx.BatchStat(jnp.ones((width,), jnp.float32))

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x normalised by the batch's statistics, which are recorded, or by the running ones."""
        mean, var = self._observe(x) if train else (self.mean[...], self.var[...])
        factor = lax.rsqrt(var + _EPSILON) * self.scale[...]

        def wide(numbers: jax.Array) -> jax.Array:
            return lax.broadcast_in_dim(numbers, x.shape, (x.ndim - 1,))

        # lax rather than jax.numpy: this runs once a layer, and tracing deep networks takes half the time.
        asked = x.dtype
        x = x.astype(jnp.promote_types(x.dtype, mean.dtype))
        y = lax.add(lax.mul(lax.sub(x, wide(mean)), wide(factor)), wide(self.bias[...]))
        return y.astype(asked)  # a bfloat16 network stays one behind its float32 norms

    def _observe(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        axes = tuple(range(x.ndim - 1))
        count = math.prod(x.shape[:-1])
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean = jnp.mean(x, axes)
        # One pass over the data. Rounding can leave a constant channel just below zero.
        var = jnp.maximum(jnp.mean(jnp.square(x), axes) - jnp.square(mean), 0.0)
        unbiased = var * (count / max(count - 1, 1))
        for running, batch in ((self.mean, mean), (self.var, unbiased)):
            # set_value: assigning to [...] costs time linear in the trace so far.
            running.set_value((1 - _MOMENTUM) * running[...] + _MOMENTUM * lax.stop_gradient(batch))
        return mean, var
