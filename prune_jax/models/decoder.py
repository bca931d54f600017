"""A Llama-like language model whose heads, widths and depth are constructor arguments."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from prune_jax.models.attention import Attention
from prune_jax.models.keys import stream
from prune_jax.models.widths import resolve

KV_HEADS, INNER = (
    "attention/q",
    "mlp/gate",
)  # what names a block's key and value heads, and its inner channels
RESIDUAL, TIED_RESIDUAL = "embed", "embed/embedding:1"  # a tied table makes two groups, one along each axis


class GatedMLP(nnx.Module):
    """``down(silu(gate x) * up x)`` without biases. Source: Shazeer, 2020, arXiv 2002.05202 (SwiGLU)."""

    def __init__(self, hidden: int, inner: int, *, rngs: nnx.Rngs):
        self.gate, self.up = (nnx.Linear(hidden, inner, use_bias=False, rngs=rngs) for _ in range(2))
        self.down = nnx.Linear(inner, hidden, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, length, hidden) -> the same shape."""
        rows = x.reshape(-1, x.shape[-1])  # of matrices XLA:CPU makes kernels' gradients in half the time
        return self.down(nnx.silu(self.gate(rows)) * self.up(rows)).reshape(x.shape)


class DecoderBlock(nnx.Module):
    """``x + attention(norm x)``, then ``x + mlp(norm x)``."""

    def __init__(self, hidden: int, inner: int, *, norm_eps: float, rngs: nnx.Rngs, **attention: Any):
        self.attention_norm, self.mlp_norm = (
            nnx.RMSNorm(hidden, epsilon=norm_eps, rngs=rngs) for _ in range(2)
        )
        self.attention = Attention(hidden, rngs=rngs, **attention)
        self.mlp = GatedMLP(hidden, inner, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, length, hidden) -> the same shape."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class Decoder(nnx.Module):
    """A language model: ``embed``, ``blocks``, ``norm`` and ``head``. Where it is tied, the head is the embedding.

    Blocks have RMS norms before attention and MLP, rotary positions, grouped queries and a SwiGLU MLP. Their leaves are
    ``blocks/0/attention/q/kernel`` and so on. With ``scan`` one block runs over stacked leaves
    ``blocks/attention/q/kernel`` of shape (depth, ...), which compile once. Then all layers lose the same channels.

    Args:
        num_classes: size of the vocabulary.
        input_shape: (length,), the positions that cost counts are made for. A call takes any length.
        rngs: where the weights are drawn from.
        widths: sizes by group: 'embed' the residual width ('embed/embedding:1' where it is tied),
            'blocks/0/attention/q' key and value heads, 'blocks/0/mlp/gate' inner channels ('blocks/attention/q' and
            'blocks/mlp/gate' with ``scan``).
        hidden, depth, mlp: residual width, number of blocks, inner width.
        heads, kv_heads, head_dim: query heads, the key and value heads that they share evenly, size of each.
        tied: whether the logits are taken with the embedding.
        scan: whether blocks are stacked.
        rope_theta, norm_eps: base of the rotary angles, epsilon of the norms.
        qkv_bias: whether queries, keys and values have biases, as in Qwen2.

    Raises:
        ValueError: a size is below 1, ``heads`` is no multiple of ``kv_heads``, or ``head_dim`` is odd.

    Source: Touvron et al., 2023, LLaMA, arXiv 2302.13971.

    Example:
        >>> net = Decoder(num_classes=256, input_shape=(8,), rngs=nnx.Rngs(0), hidden=16, heads=4, kv_heads=2)
        >>> net(jnp.zeros((1, 8), jnp.uint8)).shape
        (1, 8, 256)
    """

    def __init__(
        self,
        *,
        num_classes: int,
        input_shape: Sequence[int],
        rngs: nnx.Rngs,
        widths: Mapping[str, int] | None = None,
        hidden: int = 32,
        depth: int = 2,
        heads: int = 8,
        kv_heads: int = 4,
        head_dim: int = 8,
        mlp: int = 64,
        tied: bool = False,
        scan: bool = False,
        rope_theta: float = 10000.0,
        norm_eps: float = 1e-5,
        qkv_bias: bool = False,
    ):
        _check(
            heads,
            kv_heads,
            head_dim,
            {"hidden": hidden, "depth": depth, "mlp": mlp, "length": len(input_shape) and input_shape[0]},
        )
        places = ["blocks"] if scan else [f"blocks/{i}" for i in range(depth)]
        sizes = {
            f"{place}/{name}": size for place in places for name, size in ((KV_HEADS, kv_heads), (INNER, mlp))
        }
        residual = TIED_RESIDUAL if tied else RESIDUAL
        w = resolve(widths, {residual: hidden, **sizes})
        how = {"queries": heads // kv_heads, "head_dim": head_dim, "rope_theta": rope_theta}
        how |= {"qkv_bias": qkv_bias, "norm_eps": norm_eps}

        def block(place: str, rngs: nnx.Rngs) -> DecoderBlock:
            return DecoderBlock(
                w[residual], w[f"{place}/{INNER}"], kv_heads=w[f"{place}/{KV_HEADS}"], rngs=rngs, **how
            )

        self.scan, self.tied = scan, tied
        self.embed = nnx.Embed(
            num_classes, w[residual], embedding_init=nnx.initializers.normal(0.02), rngs=rngs
        )
        if scan:
            keys = jax.random.split(rngs.params(), depth)
            self.blocks: Any = stacked(lambda key: block("blocks", stream(key)), keys)
        else:
            self.blocks = nnx.List([block(place, rngs) for place in places])
        self.norm = nnx.RMSNorm(w[residual], epsilon=norm_eps, rngs=rngs)
        if not tied:
            self.head = nnx.Linear(w[residual], num_classes, use_bias=False, rngs=rngs)

    def __call__(self, tokens: jax.Array, *, train: bool = False) -> jax.Array:
        """Tokens (batch, length), integers -> logits of each next one (batch, length, vocabulary)."""
        return self.from_embeddings(self.embedded(tokens))

    def embedded(self, tokens: jax.Array) -> jax.Array:
        """Tokens (batch, length) -> their embeddings (batch, length, hidden), of the table's own type."""
        return self.embed.embedding[...][tokens]

    def from_embeddings(self, x: jax.Array) -> jax.Array:
        """The same of embeddings (batch, length, hidden), with respect to which logits have a Jacobian."""
        x, _ = self._through_blocks(x)
        x = self.norm(x)
        return x @ self.embed.embedding[...].T if self.tied else self.head(x)

    def last_logits(self, x: jax.Array) -> jax.Array:
        """Logits of the last position (batch, vocabulary) of embeddings (batch, length, hidden)."""
        return self.from_embeddings(x)[:, -1]

    def streams(self, tokens: jax.Array) -> jax.Array:
        """The residual stream before every block and after the last: (depth + 1, batch, length, hidden)."""
        x, before = self._through_blocks(self.embedded(tokens))
        return jnp.concatenate((jnp.stack(list(before)), x[None]))

    def _through_blocks(self, x: jax.Array) -> tuple[jax.Array, Any]:
        """What leaves the last block, and what entered each."""
        if self.scan:
            definition, state = nnx.split(self.blocks)
            return jax.lax.scan(lambda x, one: (nnx.merge(definition, one)(x), x), x, state)
        before = []
        for block in self.blocks:
            before.append(x)
            x = block(x)
        return x, before


def stacked(make: Any, keys: jax.Array) -> nnx.Module:
    """One module whose leaves have an axis of ``len(keys)`` first: those of ``make(key)`` for each key."""
    definition, _ = nnx.split(nnx.eval_shape(lambda: make(jax.random.key(0))))
    return nnx.merge(definition, jax.vmap(lambda key: nnx.state(make(key)))(keys))


def _check(heads: int, kv_heads: int, head_dim: int, sizes: Mapping[str, int]) -> None:
    for name, size in {**sizes, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    if heads % kv_heads:
        raise ValueError(
            f"heads is {heads} and kv_heads {kv_heads}: every key and value head serves equally many queries; "
            f"make heads a multiple of {kv_heads}, or kv_heads one of "
            f"{', '.join(str(n) for n in range(1, heads + 1) if heads % n == 0)}"
        )
    if head_dim % 2:
        raise ValueError(
            f"head_dim is {head_dim}, but rotary positions turn pairs of its entries; make it even"
        )
