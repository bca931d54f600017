"""Image batches on the device: normalisation, random crops and flips, all inside jit with explicit keys."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def normalize(images: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """Images ``(..., channels)`` to float32 ``(x - mean) / std`` per channel, of uint8 ones ``x / 255`` for ``x``."""
    shape = (1,) * (images.ndim - 1) + (-1,)
    center = jnp.asarray(mean, jnp.float32).reshape(shape)
    scale = jnp.asarray(std, jnp.float32).reshape(shape)
    unit = images.astype(jnp.float32)
    if images.dtype == jnp.uint8:
        unit = unit / 255.0
    return (unit - center) / scale


def random_crop(key: jax.Array, images: jax.Array, pad: int) -> jax.Array:
    """Zero-pad ``(batch, h, w, c)`` by ``pad`` on each side and cut a window of the old size per example."""
    batch, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    corners = jax.random.randint(key, (batch, 2), 0, 2 * pad + 1)

    def cut(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))

    return jax.vmap(cut)(padded, corners)


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirror each of ``(batch, h, w, c)`` left to right with probability one half."""
    flip = jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images)


def augment(key: jax.Array, images: jax.Array, *, crop_pad: int = 0, flip: bool = False) -> jax.Array:
    """The CIFAR recipe, each part optional: a crop from ``crop_pad`` pixels of padding, then a flip."""
    crop_key, flip_key = jax.random.split(key)
    if crop_pad:
        images = random_crop(crop_key, images, crop_pad)
    return random_flip(flip_key, images) if flip else images
