"""A U-Net with group norms in plain JAX, for the coupling benchmark: (apply, params as shapes, abstract image).

Two residual blocks a level on the way down and up, skips by concatenation, attention at the lowest level; like the
networks of diffusion models (arXiv 2006.11239), without the embedding of time.
"""

import jax
import jax.numpy as jnp

WIDTHS, NORM_GROUPS, SIDE = (128, 256, 256, 512), 32, 64


def _conv(p, x, stride=1):
    out = jax.lax.conv_general_dilated(
        x, p["kernel"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return out + p["bias"]


def _norm(p, x, groups):
    b, h, w, c = x.shape
    x = x.reshape(b, h * w, groups, c // groups)
    x = (x - x.mean((1, 3), keepdims=True)) * jax.lax.rsqrt(x.var((1, 3), keepdims=True) + 1e-5)
    return x.reshape(b, h, w, c) * p["scale"] + p["shift"]


def _block(p, x, groups):
    y = _conv(p["conv1"], jax.nn.silu(_norm(p["norm1"], x, groups)))
    y = _conv(p["conv2"], jax.nn.silu(_norm(p["norm2"], y, groups)))
    return y + (_conv(p["short"], x) if "short" in p else x)


def _attend(p, x, groups):
    b, h, w, c = x.shape
    flat = _norm(p["norm"], x, groups).reshape(b, h * w, c)
    q, k, v = (flat @ p[name] for name in ("q", "k", "v"))
    weights = jax.nn.softmax(q @ k.swapaxes(1, 2) / c**0.5)
    return x + (weights @ v @ p["out"]).reshape(b, h, w, c)


def _apply(p, x, groups):
    """Images of the same shape as ``x`` (batch, height, width, 3)."""
    x, skips = _conv(p["stem"], x), []
    for level in p["down"]:
        for block in level["blocks"]:
            x = _block(block, x, groups)
            skips.append(x)
        x = _conv(level["smaller"], x, 2) if "smaller" in level else x
    x = _block(p["last"], _attend(p["attention"], _block(p["first"], x, groups), groups), groups)
    for level in p["up"]:
        for block in level["blocks"]:
            x = _block(block, jnp.concatenate([x, skips.pop()], -1), groups)
        if "larger" in level:
            x = _conv(level["larger"], jnp.repeat(jnp.repeat(x, 2, 1), 2, 2))
    return _conv(p["head"], jax.nn.silu(_norm(p["norm"], x, groups)))


def _leaf(*shape):
    return jax.ShapeDtypeStruct(shape, "float32")


def _conv_shapes(inside, outside, side=3):
    return {"kernel": _leaf(side, side, inside, outside), "bias": _leaf(outside)}


def _norm_shapes(width):
    return {"scale": _leaf(width), "shift": _leaf(width)}


def _block_shapes(inside, outside):
    block = {
        "norm1": _norm_shapes(inside), "conv1": _conv_shapes(inside, outside),
        "norm2": _norm_shapes(outside), "conv2": _conv_shapes(outside, outside),
    }  # fmt: skip
    return block | ({"short": _conv_shapes(inside, outside, 1)} if inside != outside else {})


def _shapes(widths):
    inside, down, skips = widths[0], [], []
    for k, width in enumerate(widths):
        level = {"blocks": [_block_shapes(inside, width), _block_shapes(width, width)]}
        inside, skips = width, [*skips, width, width]
        down.append(level | ({"smaller": _conv_shapes(width, width)} if k + 1 < len(widths) else {}))
    up = []
    for k, width in enumerate(reversed(widths)):
        blocks = []
        for _ in range(2):
            blocks.append(_block_shapes(inside + skips.pop(), width))
            inside = width
        up.append(
            {"blocks": blocks} | ({"larger": _conv_shapes(width, width)} if k + 1 < len(widths) else {})
        )
    low = widths[-1]
    attention = {"norm": _norm_shapes(low)} | {name: _leaf(low, low) for name in ("q", "k", "v", "out")}
    return {
        "stem": _conv_shapes(3, widths[0]), "down": down, "first": _block_shapes(low, low), "attention": attention,
        "last": _block_shapes(low, low), "up": up, "norm": _norm_shapes(inside), "head": _conv_shapes(inside, 3),
    }  # fmt: skip


def unet(widths=WIDTHS, groups=NORM_GROUPS, side=SIDE):
    """(apply, params as shapes, one abstract image)."""
    image = jax.ShapeDtypeStruct((1, side, side, 3), "float32")
    return lambda params, x: _apply(params, x, groups), _shapes(widths), image
