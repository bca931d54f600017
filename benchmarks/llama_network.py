"""A decoder like Llama in plain JAX, for the coupling benchmark: (apply, params as shapes, abstract tokens).

Grouped queries, rotary positions, RMS norms, gated hidden layers, a causal mask; one function for each block, no scan.
Sizes are those of a 7B model with grouped queries (arXiv 2307.09288 gives the architecture).
"""

import jax
import jax.numpy as jnp

DEPTH, WIDTH, HEADS, SHARED, HIDDEN, WORDS = 32, 4096, 32, 8, 11008, 32000


def _norm(scale, x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * scale


def _turned(x):
    """Rotary positions: the halves of each head's dimensions go in pairs."""
    length, half = x.shape[1], x.shape[-1] // 2
    angles = jnp.outer(jnp.arange(length), 10000.0 ** (-jnp.arange(half) / half))[None, :, None, :]
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    left, right = jnp.split(x, 2, -1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], -1)


def _attend(p, x, heads, shared):
    batch, length, width = x.shape
    inner = width // heads
    q = _turned((x @ p["q"]).reshape(batch, length, heads, inner))
    k = _turned((x @ p["k"]).reshape(batch, length, shared, inner))
    v = (x @ p["v"]).reshape(batch, length, shared, inner)
    k, v = (jnp.repeat(each, heads // shared, axis=2) for each in (k, v))
    weights = jnp.einsum("bqhd,bkhd->bhqk", q, k) / inner**0.5
    causal = jnp.tril(jnp.ones((length, length), bool))[None, None]
    weights = jax.nn.softmax(jnp.where(causal, weights, -1e30))
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(batch, length, width) @ p["out"]


def _apply(p, tokens, heads, shared):
    """Logits of tokens (batch, length)."""
    x = p["words"][tokens]
    for block in p["blocks"]:
        x = x + _attend(block, _norm(block["norm1"], x), heads, shared)
        y = _norm(block["norm2"], x)
        x = x + (jax.nn.silu(y @ block["gate"]) * (y @ block["up"])) @ block["down"]
    return _norm(p["norm"], x) @ p["head"]


def _shapes(depth, width, heads, shared, hidden, words):
    def leaf(*shape):
        return jax.ShapeDtypeStruct(shape, "float32")

    few = width // heads * shared
    block = {
        "norm1": leaf(width), "q": leaf(width, width), "k": leaf(width, few), "v": leaf(width, few),
        "out": leaf(width, width), "norm2": leaf(width), "gate": leaf(width, hidden), "up": leaf(width, hidden),
        "down": leaf(hidden, width),
    }  # fmt: skip
    blocks = [dict(block) for _ in range(depth)]
    return {"words": leaf(words, width), "blocks": blocks, "norm": leaf(width), "head": leaf(width, words)}


def llama(depth=DEPTH, width=WIDTH, heads=HEADS, shared=SHARED, hidden=HIDDEN, words=WORDS, length=16):
    """(apply, params as shapes, abstract tokens); the defaults are a 7B model's sizes."""

    def apply(params, tokens):
        return _apply(params, tokens, heads, shared)

    shapes = _shapes(depth, width, heads, shared, hidden, words)
    return apply, shapes, jax.ShapeDtypeStruct((1, length), "int32")
