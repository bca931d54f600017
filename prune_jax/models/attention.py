"""Causal attention with rotary positions and grouped queries, on flat kernels."""

import jax
import jax.numpy as jnp
from flax import nnx


class Attention(nnx.Module):
    """Queries in groups, each of which reads one key and value head: ``q``, ``k``, ``v`` and ``o``.

    Kernels are flat: (hidden, heads * head_dim), heads of one group side by side. The number of groups and of queries
    in each is read off the kernels, so what is left of a cut network runs as it is. The size of a head is fixed, since
    rotary positions turn pairs of its entries.

    Source: Ainslie et al., 2023, GQA, arXiv 2305.13245. Su et al., 2021, RoFormer, arXiv 2104.09864.
    """

    def __init__(
        self,
        hidden: int,
        *,
        queries: int,
        kv_heads: int,
        head_dim: int,
        rope_theta: float,
        qkv_bias: bool,
        rngs: nnx.Rngs,
    ):
        def made(heads: int) -> nnx.Linear:
            return nnx.Linear(hidden, heads * head_dim, use_bias=qkv_bias, rngs=rngs)

        self.head_dim, self.rope_theta = head_dim, rope_theta
        self.q, self.k, self.v = made(queries * kv_heads), made(kv_heads), made(kv_heads)
        self.o = nnx.Linear(queries * kv_heads * head_dim, hidden, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """What every position gathers from itself and those before it: (batch, length, hidden)."""
        batch, length, _ = x.shape
        rows = x.reshape(-1, x.shape[-1])  # of matrices XLA:CPU makes kernels' gradients in half the time
        q, k, v = (
            made(rows).reshape(batch, length, made.kernel.shape[-1] // self.head_dim, self.head_dim)
            for made in (self.q, self.k, self.v)
        )
        turns = rotations(length, self.head_dim, self.rope_theta)
        q, k = rotated(q, turns), rotated(k, turns)
        k, v = (jnp.repeat(each, q.shape[2] // k.shape[2], 2) for each in (k, v))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * self.head_dim**-0.5
        before = jnp.tril(jnp.ones((length, length), bool))
        scores = jnp.where(before[None, None], scores, jnp.finfo(scores.dtype).min)
        seen = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)
        return self.o(seen.reshape(-1, self.o.kernel.shape[0])).reshape(x.shape)


def rotations(length: int, head_dim: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines (1, length, 1, head_dim / 2) of position times theta ** (-2 i / head_dim)."""
    speed = theta ** (-jnp.arange(0, head_dim, 2) / head_dim)
    angle = (jnp.arange(length)[:, None] * speed[None])[None, :, None]
    return jnp.cos(angle), jnp.sin(angle)


def rotated(x: jax.Array, turns: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Entry i of every head turned with entry i + head_dim / 2, as Llama's published weights expect it.

    Args:
        x: (batch, length, heads, head_dim).
        turns: as ``rotations`` gives them.

    Returns:
        An array like x.
    """
    cos, sin = (each.astype(x.dtype) for each in turns)
    one, other = jnp.split(x, 2, axis=-1)
    return jnp.concatenate((one * cos - other * sin, other * cos + one * sin), axis=-1)
