"""Swin-T as published (arXiv 2103.14030) in plain JAX, for the coupling benchmark: (apply, params as shapes, image).

Windows by reshape, shifts by roll, a relative bias gathered from a table, masks for shifted windows, patch merging by
strided slices. About 3,000 equations at 224 x 224 pixels.
"""

import jax
import jax.numpy as jnp
import numpy as np

DEPTHS, WIDTH, HEADS, WINDOW = (2, 2, 6, 2), 96, (3, 6, 12, 24), 7


def _relative(window):
    """Row of the bias table for each pair of positions in a window."""
    place = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij"), -1).reshape(-1, 2)
    apart = place[:, None] - place[None] + window - 1
    return (apart[..., 0] * (2 * window - 1) + apart[..., 1]).reshape(-1)


def _mask(side, window, shift):
    """0 where two positions of a shifted window were neighbours before the shift, -100 elsewhere."""
    region = np.zeros((side, side), np.int32)
    parts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for i, rows in enumerate(parts):
        for j, columns in enumerate(parts):
            region[rows, columns] = 3 * i + j
    n = side // window
    cut = region.reshape(n, window, n, window).transpose(0, 2, 1, 3).reshape(n * n, -1)
    return np.where(cut[:, None] == cut[:, :, None], 0.0, -100.0).astype(np.float32)


def _norm(p, x):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(var + 1e-5) * p["scale"] + p["shift"]


def _dense(p, x):
    return x @ p["kernel"] + p["bias"]


def _windows(x, window):
    b, h, w, c = x.shape
    x = x.reshape(b, h // window, window, w // window, window, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, window * window, c)


def _attend(p, x, heads, side, window, shift):
    count, n, c = x.shape
    q, k, v = _dense(p["qkv"], x).reshape(count, n, 3, heads, c // heads).transpose(2, 0, 3, 1, 4)
    weights = (q * (c // heads) ** -0.5) @ k.swapaxes(-1, -2)
    bias = p["table"][_relative(window)].reshape(n, n, heads).transpose(2, 0, 1)
    weights = weights + bias[None]
    if shift:
        mask = _mask(side, window, shift)
        weights = weights.reshape(-1, len(mask), heads, n, n) + mask[None, :, None]
        weights = weights.reshape(count, heads, n, n)
    out = (jax.nn.softmax(weights) @ v).transpose(0, 2, 1, 3).reshape(count, n, c)
    return _dense(p["out"], out)


def _block(p, x, heads, window, shift):
    b, h, w, c = x.shape
    y = _norm(p["norm1"], x)
    if shift:
        y = jnp.roll(y, (-shift, -shift), (1, 2))
    y = _attend(p, _windows(y, window), heads, h, window, shift)
    y = y.reshape(b, h // window, w // window, window, window, c)
    y = y.transpose(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
    if shift:
        y = jnp.roll(y, (shift, shift), (1, 2))
    x = x + y
    return x + _dense(p["down"], jax.nn.gelu(_dense(p["up"], _norm(p["norm2"], x)), approximate=False))


def _merge(p, x):
    x = jnp.concatenate([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], -1)
    return _norm(p["norm"], x) @ p["kernel"]


def _apply(p, x, heads, window):
    """Logits of images (batch, height, width, 3)."""
    x = jax.lax.conv_general_dilated(
        x, p["patch"]["kernel"], (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = _norm(p["patch"]["norm"], x + p["patch"]["bias"])
    for k, (stage, n) in enumerate(zip(p["stages"], heads, strict=True)):
        if k:
            x = _merge(stage["merge"], x)
        inside = min(window, x.shape[1])
        for number, block in enumerate(stage["blocks"]):
            x = _block(block, x, n, inside, inside // 2 if number % 2 and x.shape[1] > inside else 0)
    return _dense(p["head"], _norm(p["norm"], x).mean((1, 2)))


def _shapes(widths, depths, heads, window, classes):
    def leaf(*shape):
        return jax.ShapeDtypeStruct(shape, "float32")

    def norm(c):
        return {"scale": leaf(c), "shift": leaf(c)}

    def dense(i, o):
        return {"kernel": leaf(i, o), "bias": leaf(o)}

    def block(c, n):
        return {
            "norm1": norm(c), "qkv": dense(c, 3 * c), "table": leaf((2 * window - 1) ** 2, n), "out": dense(c, c),
            "norm2": norm(c), "up": dense(c, 4 * c), "down": dense(4 * c, c),
        }  # fmt: skip

    stages: list[dict] = []
    for k, (c, depth, n) in enumerate(zip(widths, depths, heads, strict=True)):
        stages.append({"blocks": [block(c, n) for _ in range(depth)]})
        if k:
            stages[-1]["merge"] = {"norm": norm(2 * c), "kernel": leaf(2 * c, c)}
    first, last = widths[0], widths[-1]
    patch = {"kernel": leaf(4, 4, 3, first), "bias": leaf(first), "norm": norm(first)}
    return {"patch": patch, "stages": stages, "norm": norm(last), "head": dense(last, classes)}


def swin(depths=DEPTHS, width=WIDTH, heads=HEADS, window=WINDOW, side=224, classes=1000):
    """(apply, params as shapes, one abstract image); the defaults are Swin-T."""
    widths = [width * 2**k for k in range(len(depths))]

    def apply(params, x):
        return _apply(params, x, heads, window)

    image = jax.ShapeDtypeStruct((1, side, side, 3), "float32")
    return apply, _shapes(widths, depths, heads, window, classes), image
