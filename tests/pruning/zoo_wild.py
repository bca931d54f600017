"""Further networks from the literature, in Linen, small: what none of the rules was written for."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class Swin(nn.Module):
    """Window attention: windows by reshape, a gathered bias table, patch merging by strided slices."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (2, 2), strides=2, name="patch")(x)
        b, h, w, c = x.shape
        y = jnp.roll(nn.LayerNorm()(x), (-1, -1), (1, 2))
        y = y.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        qkv = nn.Dense(24, name="qkv")(y).reshape(-1, 4, 3, 2, 4).transpose(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        table = self.param("table", nn.initializers.normal(), (9, 2))
        order = np.array([4, 3, 1, 0, 5, 4, 2, 1, 7, 6, 4, 3, 8, 7, 5, 4])
        bias = table[order].reshape(4, 4, 2).transpose(2, 0, 1)
        y = nn.softmax(q @ k.swapaxes(-1, -2) * 4**-0.5 + bias[None]) @ v
        y = nn.Dense(8, name="out")(y.transpose(0, 2, 1, 3).reshape(-1, 4, 8))
        y = y.reshape(b, h // 2, w // 2, 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        x = x + jnp.roll(y, (1, 1), (1, 2))
        x = x + nn.Dense(8, name="down")(nn.gelu(nn.Dense(16, name="up")(nn.LayerNorm()(x))))
        x = jnp.concatenate([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], -1)
        return nn.Dense(3, name="fc")(
            nn.Dense(12, use_bias=False, name="merge")(nn.LayerNorm()(x)).mean((1, 2))
        )


class Llama(nn.Module):
    """Rotary positions, grouped queries, a causal mask, RMS norms, a gated MLP."""

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(11, 8, name="table")(tokens)
        b, t, _ = x.shape
        y = nn.RMSNorm()(x)
        q, k, v = (
            nn.DenseGeneral((n, 4), use_bias=False, name=name)(y)
            for name, n in (("q", 4), ("k", 2), ("v", 2))
        )
        angle = jnp.arange(t)[:, None] / 10000 ** (jnp.arange(0, 4, 2) / 4)[None]
        cos, sin = (f(angle)[None, :, None].astype(x.dtype) for f in (jnp.cos, jnp.sin))

        def rotated(z):
            one, two = z[..., :2], z[..., 2:]
            return jnp.concatenate([one * cos - two * sin, two * cos + one * sin], -1)

        q = rotated(q).reshape(b, t, 2, 2, 4)
        weights = jnp.einsum("bqkgs,btks->bkgqt", q, rotated(k)) / np.sqrt(4)
        causal = jnp.tril(jnp.ones((t, t), bool))[None, None, None]
        weights = nn.softmax(jnp.where(causal, weights, -1e30))
        y = jnp.einsum("bkgqt,btks->bqkgs", weights, v).reshape(b, t, 16)
        x = x + nn.Dense(8, use_bias=False, name="out")(y)
        y = nn.RMSNorm()(x)
        y = nn.silu(nn.Dense(12, name="gate")(y)) * nn.Dense(12, name="up")(y)
        return nn.Dense(5, name="fc")(nn.RMSNorm()(x + nn.Dense(8, name="down")(y)))


class FlatRotary(nn.Module):
    """Rotary positions on kernels with one axis for heads and dimensions: halves first, then neighbours."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8, name="embed")(x)
        b, t, _ = x.shape
        angle = jnp.arange(t)[:, None] / 100 ** (jnp.arange(2) / 2)[None]
        cos, sin = (f(angle)[None, :, None].astype(x.dtype) for f in (jnp.cos, jnp.sin))

        def halves(z):
            one, two = z[..., :2], z[..., 2:]
            return jnp.concatenate([one * cos - two * sin, two * cos + one * sin], -1)

        def neighbours(z):
            one, two = z[..., ::2], z[..., 1::2]
            return jnp.stack([one * cos - two * sin, two * cos + one * sin], -1).reshape(z.shape)

        for layer, turned in enumerate((halves, neighbours)):
            q, k, v = (
                nn.Dense(12, use_bias=n == "v", name=f"{n}{layer}")(x).reshape(b, t, 3, 4) for n in "qkv"
            )
            weights = nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", turned(q), turned(k)))
            x = x + nn.Dense(8)(jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(b, t, -1))
        return nn.Dense(3, name="fc")(x)


class GPT(nn.Module):
    """Transformer blocks stacked on an axis, run by nn.scan over nn.remat, with a tied embedding."""

    @nn.compact
    def __call__(self, tokens):
        class Block(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                mask = nn.make_causal_mask(jnp.ones(x.shape[:2]))
                x = x + nn.MultiHeadDotProductAttention(2, name="attention")(nn.LayerNorm()(x), mask=mask)
                return x + nn.Dense(8, name="down")(nn.gelu(nn.Dense(16, name="up")(nn.LayerNorm()(x)))), None

        table = nn.Embed(11, 8, name="table")
        x = table(tokens) + nn.Embed(3, 8, name="places")(jnp.arange(3)[None])
        scan = nn.scan(nn.remat(Block), variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
        x, _ = scan(name="blocks")(x, None)
        return table.attend(nn.LayerNorm()(x))


class DiT(nn.Module):
    """Adaptive layer norm: six modulations from one dense layer, sinusoidal time."""

    @nn.compact
    def __call__(self, x):
        wave = x[:, :1, 0] * jnp.exp(-jnp.arange(4.0) / 4).astype(x.dtype)[None]
        time = nn.silu(nn.Dense(10, name="t1")(jnp.concatenate([jnp.sin(wave), jnp.cos(wave)], -1)))
        x = nn.Dense(8, name="embed")(x)
        shift, scale, gate, shift2, scale2, gate2 = jnp.split(nn.Dense(48, name="ada")(time)[:, None], 6, -1)
        plain = nn.LayerNorm(use_bias=False, use_scale=False)
        y = plain(x) * (1 + scale) + shift
        x = x + gate * nn.MultiHeadDotProductAttention(2, name="attention")(y, y)
        y = nn.gelu(nn.Dense(12, name="up")(plain(x) * (1 + scale2) + shift2))
        return nn.Dense(3, name="fc")(x + gate2 * nn.Dense(8, name="down")(y))


class Mamba(nn.Module):
    """A selective state space: depthwise causal convolution, softplus steps, an associative scan."""

    @nn.compact
    def __call__(self, x):
        x, z = nn.Dense(6, name="embed")(x), nn.silu(nn.Dense(6, name="gate")(x))
        x = nn.silu(nn.Conv(6, (3,), feature_group_count=6, padding="CAUSAL", name="depth")(x))
        step = nn.softplus(nn.Dense(6, name="step")(x))
        decay = -jnp.exp(self.param("decay", nn.initializers.normal(), (6, 3)))
        b, c = nn.Dense(3, name="b")(x), nn.Dense(3, name="c")(x)
        pairs = (jnp.exp(step[..., None] * decay[None, None]), (step * x)[..., None] * b[:, :, None])
        _, state = lax.associative_scan(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), pairs, axis=1)
        return nn.Dense(3, name="fc")(jnp.einsum("btdn,btn->btd", state, c) * z)


class Perceiver(nn.Module):
    """Learned queries: activations that no input has touched."""

    @nn.compact
    def __call__(self, x):
        latents = self.param("latents", nn.initializers.normal(), (1, 4, 8))
        y = jnp.broadcast_to(latents, (x.shape[0], 4, 8))
        keys = nn.LayerNorm()(nn.Dense(8, name="keys")(x))
        y = y + nn.MultiHeadDotProductAttention(2, name="cross")(nn.LayerNorm()(y), keys)
        return nn.Dense(3, name="fc")(y.mean(1))


class PointNet(nn.Module):
    """A maximum over points, and its copy to every point."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(8, name="a")(x))
        x = jnp.concatenate([x, jnp.broadcast_to(x.max(1, keepdims=True), x.shape)], -1)
        return nn.Dense(3, name="fc")(nn.relu(nn.Dense(6, name="b")(x)).max(1))


class GraphNet(nn.Module):
    """Messages along edges: gathers and segment sums over nodes."""

    @nn.compact
    def __call__(self, x):
        senders, receivers = np.array([0, 1, 2, 3, 4, 0]), np.array([1, 2, 3, 4, 0, 2])
        for k in range(2):
            messages = nn.relu(nn.Dense(6, name=f"message{k}")(x[senders]))
            x = jnp.concatenate([x, jax.ops.segment_sum(messages, receivers, 5)], -1)
            x = nn.tanh(nn.Dense(6, name=f"node{k}")(x))
        return nn.Dense(3, name="fc")(x)


class Experts(nn.Module):
    """A soft mixture of experts: the experts are an axis, and so are their hidden channels."""

    @nn.compact
    def __call__(self, x):
        up = self.param("up", nn.initializers.normal(), (3, 4, 6))
        down = self.param("down", nn.initializers.normal(), (3, 6, 5))
        gate = nn.softmax(nn.Dense(3, name="gate")(x))
        y = jnp.einsum("beh,eho->beo", nn.relu(jnp.einsum("bi,eih->beh", x, up)), down)
        return nn.Dense(3, name="fc")(jnp.einsum("beo,be->bo", y, gate))


class Blurred(nn.Module):
    """A constant depthwise kernel (blur pooling) and a grouped convolution between two norms."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.InstanceNorm()(nn.Conv(8, (3, 3), name="a")(x)))
        kernel = jnp.tile(
            jnp.outer(jnp.array([1.0, 2, 1]), jnp.array([1.0, 2, 1]))[:, :, None, None] / 16, (1, 1, 1, 8)
        )
        x = lax.conv_general_dilated(
            x,
            kernel.astype(x.dtype),
            (2, 2),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=8,
        )
        x = nn.RMSNorm()(nn.Conv(6, (3, 3), feature_group_count=2, name="grouped")(x))
        return nn.Dense(3, name="fc")(x.mean((1, 2)))


NETS = {
    "swin": (Swin, (1, 8, 8, 3)),
    "llama": (Llama, (2, 3)),
    "rotary": (FlatRotary, (2, 3, 5)),
    "gpt": (GPT, (2, 3)),
    "dit": (DiT, (2, 4, 5)),
    "mamba": (Mamba, (2, 6, 4)),
    "perceiver": (Perceiver, (2, 5, 6)),
    "pointnet": (PointNet, (2, 7, 3)),
    "graph": (GraphNet, (5, 4)),
    "experts": (Experts, (2, 4)),
    "blurred": (Blurred, (1, 4, 4, 3)),
}


def build(name):
    """(apply, variables as shapes, input as shape), of the default float type: float64 under x64."""
    make, shape = NETS[name]
    floats = jnp.zeros(()).dtype
    x = jax.ShapeDtypeStruct(shape, "int32" if name in ("llama", "gpt") else floats)
    variables = jax.eval_shape(make().init, jax.random.key(0), x)
    return make().apply, jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, floats), variables), x
