"""Convolutions, dense layers and pools, initialised and padded as PyTorch does it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

Init = Callable[..., jax.Array]

# torch.nn.init.kaiming_normal_(mode='fan_out', nonlinearity='relu'): variance 2 / (k*k*out).
he_fan_out: Init = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
# The default of torch.nn.Linear and torch.nn.Conv2d: uniform within +-1/sqrt(fan_in).
torch_default: Init = nnx.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


def uniform_bias(fan_in: int) -> Init:
    """PyTorch's default bias: uniform within +-1/sqrt(fan_in)."""
    limit = fan_in**-0.5

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


def dense(in_width: int, out_width: int, *, rngs: nnx.Rngs) -> nnx.Linear:
    """Dense layer with bias. Weights and bias are drawn as `torch.nn.Linear` draws them."""
    return nnx.Linear(
        in_width, out_width, kernel_init=torch_default, bias_init=uniform_bias(in_width), rngs=rngs
    )


def conv(
    in_width: int, out_width: int, size: int, *, stride: int = 1, rngs: nnx.Rngs, init: Init = he_fan_out
) -> nnx.Conv:
    """Square convolution without bias, padded by size // 2 on every side. `init` is He fan-out normal.

    The padding is explicit since Flax's 'SAME' pads a strided convolution on one side only.
    """
    pad = size // 2
    return nnx.Conv(
        in_width,
        out_width,
        (size, size),
        strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        use_bias=False,
        kernel_init=init,
        rngs=rngs,
    )


def max_pool(x: jax.Array, size: int, *, stride: int, padding: int = 0) -> jax.Array:
    """Maximum over size x size windows of an NHWC array. What is padded counts as -inf."""
    return nnx.max_pool(x, (size, size), (stride, stride), ((padding, padding), (padding, padding)))


def subsample(x: jax.Array, stride: int) -> jax.Array:
    """Every `stride`-th row and column of an NHWC array (one lax.slice, no gather)."""
    return lax.slice(x, (0, 0, 0, 0), x.shape, (1, stride, stride, 1))


def pad_channels(x: jax.Array, low: int, high: int) -> jax.Array:
    """Zero channels before and after those of an NHWC array."""
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (0, 0, 0), (0, 0, 0), (low, high, 0)))
