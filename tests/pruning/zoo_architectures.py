"""Architectures written for ``prune``: NNX modules as their authors would write them, and the shape of an input."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

VOCABULARY = 13


def rotated(x):
    """Rotary position embedding of (batch, time, heads, size), pairs of halves."""
    _, time, _, size = x.shape
    angles = jnp.arange(time)[:, None] / 100.0 ** (jnp.arange(size // 2) / (size // 2))
    sin, cos = jnp.sin(angles)[None, :, None], jnp.cos(angles)[None, :, None]
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def interleaved(x):
    """Rotary position embedding, pairs of neighbours, as GPT-J has it."""
    _, time, _, size = x.shape
    angles = jnp.arange(time)[:, None] / 100.0 ** (jnp.arange(size // 2) / (size // 2))
    sin, cos = (jnp.repeat(f(angles), 2, -1)[None, :, None] for f in (jnp.sin, jnp.cos))
    turned = jnp.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
    return x * cos + turned * sin


def attended(q, k, v, causal=True):
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(q.shape[-1])
    if causal:
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -1e9)
    return jnp.einsum("bhqk,bkhd->bqhd", nnx.softmax(scores), v)


def linear(a, b, rngs):
    return nnx.Linear(a, b, use_bias=False, rngs=rngs)


class LlamaBlock(nnx.Module):
    """Grouped queries, rotary positions, gated MLP, RMS norms before."""

    def __init__(self, rngs):
        self.num_heads, self.num_kv_heads, self.head_dim = 4, 2, 4
        self.q, self.k, self.v, self.o = (linear(a, b, rngs) for a, b in ((8, 16), (8, 8), (8, 8), (16, 8)))
        self.n1, self.n2 = nnx.RMSNorm(8, rngs=rngs), nnx.RMSNorm(8, rngs=rngs)
        self.gate, self.up, self.down = linear(8, 12, rngs), linear(8, 12, rngs), linear(12, 8, rngs)

    def __call__(self, x):
        b, t, _ = x.shape
        y = self.n1(x)
        q = rotated(self.q(y).reshape(b, t, self.num_heads, self.head_dim))
        k = rotated(self.k(y).reshape(b, t, self.num_kv_heads, self.head_dim))
        v = self.v(y).reshape(b, t, self.num_kv_heads, self.head_dim)
        k, v = (jnp.repeat(a, self.num_heads // self.num_kv_heads, 2) for a in (k, v))
        x = x + self.o(attended(q, k, v).reshape(b, t, -1))
        y = self.n2(x)
        return x + self.down(nnx.silu(self.gate(y)) * self.up(y))


class Llama(nnx.Module):
    def __init__(self, rngs):
        self.table = nnx.Embed(VOCABULARY, 8, rngs=rngs)
        self.blocks = nnx.List([LlamaBlock(rngs), LlamaBlock(rngs)])
        self.norm, self.head = nnx.RMSNorm(8, rngs=rngs), linear(8, VOCABULARY, rngs)

    def __call__(self, tokens):
        x = self.table(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class T5(nnx.Module):
    """Tied embeddings, scaled by 1/sqrt(width) before the logits, and attention without a scale."""

    def __init__(self, rngs):
        self.table = nnx.Embed(VOCABULARY, 16, rngs=rngs)
        self.q, self.k, self.v, self.o = (linear(16, 16, rngs) for _ in range(4))
        self.n1, self.n2, self.n3 = (nnx.RMSNorm(16, rngs=rngs) for _ in range(3))
        self.up, self.down, self.d_model, self.heads = linear(16, 12, rngs), linear(12, 16, rngs), 16, 4

    def __call__(self, tokens):
        x = self.table(tokens)
        b, t, _ = x.shape
        y = self.n1(x)
        q, k, v = (layer(y).reshape(b, t, self.heads, -1) for layer in (self.q, self.k, self.v))
        scores = nnx.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))
        x = x + self.o(jnp.einsum("bhqk,bkhd->bqhd", scores, v).reshape(b, t, -1))
        x = x + self.down(nnx.relu(self.up(self.n2(x))))
        return self.table.attend(self.n3(x) * self.d_model**-0.5)


class GPTJ(nnx.Module):
    """Attention and MLP side by side, rotary positions of neighbours."""

    def __init__(self, rngs):
        self.table, self.norm = nnx.Embed(VOCABULARY, 16, rngs=rngs), nnx.LayerNorm(16, rngs=rngs)
        self.q, self.k, self.v, self.o = (linear(16, 16, rngs) for _ in range(4))
        self.up, self.down = nnx.Linear(16, 20, rngs=rngs), nnx.Linear(20, 16, rngs=rngs)
        self.last, self.head, self.heads = nnx.LayerNorm(16, rngs=rngs), linear(16, VOCABULARY, rngs), 4

    def __call__(self, tokens):
        x = self.table(tokens)
        b, t, _ = x.shape
        y = self.norm(x)
        q, k, v = (layer(y).reshape(b, t, self.heads, -1) for layer in (self.q, self.k, self.v))
        out = attended(interleaved(q), interleaved(k), v).reshape(b, t, -1)
        return self.head(self.last(x + self.o(out) + self.down(nnx.gelu(self.up(y)))))


class Performer(nnx.Module):
    """Linear attention through positive random features of a fixed projection."""

    def __init__(self, rngs):
        self.embed, self.norm = nnx.Linear(4, 12, rngs=rngs), nnx.LayerNorm(12, rngs=rngs)
        self.q, self.k, self.v, self.o = (linear(12, 12, rngs) for _ in range(4))
        self.projection = nnx.Variable(jax.random.normal(rngs.params(), (6, 4)))
        self.fc, self.heads = nnx.Linear(12, 3, rngs=rngs), 3

    def features(self, x):
        return jnp.exp(x @ self.projection[...].T - (x**2).sum(-1, keepdims=True) / 2)

    def __call__(self, x):
        x = self.embed(x)
        b, t, _ = x.shape
        y = self.norm(x)
        q, k, v = (layer(y).reshape(b, t, self.heads, -1) for layer in (self.q, self.k, self.v))
        q, k = self.features(q), self.features(k)
        total = jnp.einsum("bqhf,bhf->bqh", q, k.sum(1))
        out = jnp.einsum("bqhf,bhfd->bqhd", q, jnp.einsum("bkhf,bkhd->bhfd", k, v)) / total[..., None]
        return self.fc((x + self.o(out.reshape(b, t, -1))).mean(1))


class SwinBlock(nnx.Module):
    """Attention inside shifted windows, with a table of relative positions."""

    def __init__(self, width, rngs, shift):
        self.norm, self.qkv, self.out = (
            nnx.LayerNorm(width, rngs=rngs),
            nnx.Linear(width, 3 * width, rngs=rngs),
            nnx.Linear(width, width, rngs=rngs),
        )
        self.up, self.down = nnx.Linear(width, 12, rngs=rngs), nnx.Linear(12, width, rngs=rngs)
        self.bias, self.heads, self.shift = nnx.Param(jnp.zeros((2, 4, 4))), 2, shift

    def __call__(self, x):
        b, h, w, c = x.shape
        y = jnp.roll(self.norm(x), (-self.shift, -self.shift), (1, 2))
        y = y.reshape(b, h // 2, 2, w // 2, 2, c).swapaxes(2, 3).reshape(-1, 4, c)
        q, k, v = jnp.moveaxis(self.qkv(y).reshape(y.shape[0], 4, 3, self.heads, -1), 2, 0)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(q.shape[-1]) + self.bias[...]
        y = self.out(jnp.einsum("bhqk,bkhd->bqhd", nnx.softmax(scores), v).reshape(y.shape[0], 4, -1))
        y = y.reshape(b, h // 2, w // 2, 2, 2, c).swapaxes(2, 3).reshape(b, h, w, c)
        x = x + jnp.roll(y, (self.shift, self.shift), (1, 2))
        return x + self.down(nnx.gelu(self.up(x)))


class Swin(nnx.Module):
    def __init__(self, rngs):
        self.patch = nnx.Conv(3, 8, (2, 2), strides=2, rngs=rngs)
        self.blocks = nnx.List([SwinBlock(8, rngs, 0), SwinBlock(8, rngs, 1)])
        self.fc = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = self.patch(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((1, 2)))


class UNetAttention(nnx.Module):
    """Group norms, a time embedding's shift, attention at the lowest resolution, skips by concatenation."""

    def __init__(self, rngs):
        self.a, self.b = nnx.Conv(3, 8, (3, 3), rngs=rngs), nnx.Conv(8, 12, (3, 3), strides=2, rngs=rngs)
        self.time = nnx.Linear(4, 12, rngs=rngs)
        self.norm, self.last = nnx.GroupNorm(12, num_groups=4, rngs=rngs), nnx.BatchNorm(6, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 12, decode=False, rngs=rngs)
        self.up = nnx.ConvTranspose(12, 6, (2, 2), strides=(2, 2), rngs=rngs)
        self.c, self.out = nnx.Conv(14, 6, (3, 3), rngs=rngs), nnx.Conv(6, 3, (1, 1), rngs=rngs)

    def __call__(self, x):
        a = nnx.silu(self.a(x))
        y = self.norm(self.b(a)) + self.time(jnp.sin(jnp.arange(4.0)))
        b, h, w, c = y.shape
        y = y + self.attention(y.reshape(b, h * w, c)).reshape(b, h, w, c)
        y = self.c(jnp.concatenate([a, self.up(nnx.silu(y))], -1))
        return self.out(nnx.relu(self.last(y)))


class Experts(nnx.Module):
    """A router sends every token to its two best of four experts."""

    def __init__(self, rngs):
        make = nnx.initializers.lecun_normal()
        self.embed, self.router = nnx.Linear(4, 8, rngs=rngs), linear(8, 4, rngs)
        self.up = nnx.Param(make(rngs.params(), (4, 8, 10)))
        self.down = nnx.Param(make(rngs.params(), (4, 10, 8)))
        self.fc, self.k = nnx.Linear(8, 3, rngs=rngs), 2

    def __call__(self, x):
        x = self.embed(x)
        weights, which = lax.top_k(nnx.softmax(self.router(x)), self.k)
        gates = (jax.nn.one_hot(which, 4) * weights[..., None]).sum(-2)
        y = nnx.silu(jnp.einsum("bti,eih->bteh", x, self.up[...]))
        y = jnp.einsum("bteh,eho->bteo", y, self.down[...])
        return self.fc((x + jnp.einsum("bteo,bte->bto", y, gates)).mean(1))


class Mamba(nnx.Module):
    """A selective state space run by a scan over time."""

    def __init__(self, rngs):
        self.embed, self.inner = nnx.Linear(4, 6, rngs=rngs), nnx.Linear(6, 16, rngs=rngs)
        self.depth = nnx.Conv(8, 8, (3,), feature_group_count=8, padding="CAUSAL", rngs=rngs)
        self.step, self.b, self.c = (nnx.Linear(8, n, rngs=rngs) for n in (8, 3, 3))
        self.decay = nnx.Param(jnp.zeros((8, 3)))
        self.out, self.fc = nnx.Linear(8, 6, rngs=rngs), nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x)
        y, z = jnp.split(self.inner(x), 2, -1)
        y = nnx.silu(self.depth(y))
        step, b, c = nnx.softplus(self.step(y)), self.b(y), self.c(y)
        keep = jnp.exp(-step[..., None] * jnp.exp(self.decay[...]))
        new = (step * y)[..., None] * b[:, :, None]

        def through(state, at):
            keep, new, c = at
            state = keep * state + new
            return state, jnp.einsum("bdn,bn->bd", state, c)

        first = jnp.zeros_like(new[:, 0])
        _, y = lax.scan(through, first, jax.tree.map(lambda a: a.swapaxes(0, 1), (keep, new, c)))
        return self.fc((x + self.out(y.swapaxes(0, 1) * nnx.silu(z))).mean(1))


class ConvNeXtBlock(nnx.Module):
    def __init__(self, width, rngs):
        self.depth = nnx.Conv(width, width, (3, 3), feature_group_count=width, rngs=rngs)
        self.norm, self.scale = nnx.LayerNorm(width, rngs=rngs), nnx.Param(jnp.full(width, 0.1))
        self.up, self.down = nnx.Linear(width, 4 * width, rngs=rngs), nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x):
        return x + self.scale[...] * self.down(nnx.gelu(self.up(self.norm(self.depth(x)))))


class ConvNeXt(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 6, (2, 2), strides=2, rngs=rngs)
        self.first, self.norm = ConvNeXtBlock(6, rngs), nnx.LayerNorm(6, rngs=rngs)
        self.down, self.second = nnx.Conv(6, 8, (2, 2), strides=2, rngs=rngs), ConvNeXtBlock(8, rngs)
        self.fc = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.fc(self.second(self.down(self.norm(self.first(self.stem(x))))).mean((1, 2)))


class DenseNet(nnx.Module):
    """Bottlenecks whose outputs are all kept and read by all that follow."""

    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        widths = (6, 10)
        self.norms = nnx.List([nnx.BatchNorm(n, rngs=rngs) for n in widths])
        self.narrow = nnx.List([nnx.Conv(n, 8, (1, 1), use_bias=False, rngs=rngs) for n in widths])
        self.inner = nnx.List([nnx.BatchNorm(8, rngs=rngs) for _ in widths])
        self.grow = nnx.List([nnx.Conv(8, 4, (3, 3), use_bias=False, rngs=rngs) for _ in widths])
        self.last, self.fc = nnx.BatchNorm(14, rngs=rngs), nnx.Linear(14, 3, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        for norm, narrow, inner, grow in zip(self.norms, self.narrow, self.inner, self.grow, strict=True):
            x = jnp.concatenate([x, grow(nnx.relu(inner(narrow(nnx.relu(norm(x))))))], -1)
        return self.fc(nnx.relu(self.last(x)).mean((1, 2)))


class LSTMLanguageModel(nnx.Module):
    """An embedding, dropout, an LSTM, and logits for every position."""

    def __init__(self, rngs):
        self.table, self.drop = nnx.Embed(VOCABULARY, 6, rngs=rngs), nnx.Dropout(0.01, rngs=rngs)
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(6, 8, rngs=rngs), rngs=rngs)
        self.head = nnx.Linear(8, VOCABULARY, rngs=rngs)

    def __call__(self, tokens):
        return self.head(self.rnn(self.drop(self.table(tokens))))


class Tower(nnx.Module):
    def __init__(self, width, rngs):
        self.a, self.norm = nnx.Linear(4, width, rngs=rngs), nnx.LayerNorm(width, rngs=rngs)
        self.b = nnx.Linear(width, 8, rngs=rngs)

    def __call__(self, x):
        y = self.b(nnx.gelu(self.norm(self.a(x))))
        return y / jnp.linalg.norm(y, axis=-1, keepdims=True)


class TwoTower(nnx.Module):
    """Two encoders of two inputs; the output is the table of their cosines."""

    def __init__(self, rngs):
        self.query, self.item = Tower(10, rngs), Tower(12, rngs)
        self.temperature = nnx.Param(jnp.ones(()))

    def __call__(self, query, item):
        return self.query(query) @ self.item(item).T * jnp.exp(self.temperature[...])


WORDS, IMAGE, SEQUENCE = ((2, 4), "int32"), ((2, 8, 8, 3), "float32"), ((2, 5, 4), "float32")
VECTOR = ((3, 4), "float32")
NETS = {
    "llama": (Llama, (WORDS,)),
    "t5": (T5, (WORDS,)),
    "gpt-j": (GPTJ, (WORDS,)),
    "performer": (Performer, (SEQUENCE,)),
    "swin": (Swin, (IMAGE,)),
    "unet with attention": (UNetAttention, (IMAGE,)),
    "experts": (Experts, (SEQUENCE,)),
    "mamba": (Mamba, (SEQUENCE,)),
    "convnext": (ConvNeXt, (IMAGE,)),
    "densenet": (DenseNet, (IMAGE,)),
    "lstm language model": (LSTMLanguageModel, (WORDS,)),
    "two-tower": (TwoTower, (VECTOR, VECTOR)),
}
