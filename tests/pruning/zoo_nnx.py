"""Networks in NNX that pruning must understand: each returns (apply, params, input)."""

import jax
import jax.numpy as jnp
from flax import nnx


def norm(width, rngs):
    return nnx.BatchNorm(width, use_running_average=True, rngs=rngs)


class PreActBottleneck(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.n1, self.c1 = norm(8, rngs), nnx.Conv(8, 4, (1, 1), use_bias=False, rngs=rngs)
        self.n2, self.c2 = norm(4, rngs), nnx.Conv(4, 6, (3, 3), strides=2, use_bias=False, rngs=rngs)
        self.n3, self.c3 = norm(6, rngs), nnx.Conv(6, 10, (1, 1), use_bias=False, rngs=rngs)
        self.down = nnx.Conv(8, 10, (1, 1), strides=2, use_bias=False, rngs=rngs)
        self.last, self.fc = norm(10, rngs), nnx.Linear(10, 3, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        y = nnx.relu(self.n1(x))
        skip = self.down(y)
        y = self.c1(y)
        y = self.c2(nnx.relu(self.n2(y)))
        y = self.c3(nnx.relu(self.n3(y))) + skip
        return self.fc(nnx.relu(self.last(y)).mean((1, 2)))


class DenseNet(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        widths = (4, 7, 10)
        self.norms = nnx.List([norm(w, rngs) for w in widths])
        self.convs = nnx.List([nnx.Conv(w, 3, (3, 3), use_bias=False, rngs=rngs) for w in widths])
        self.shrinker = nnx.Conv(13, 5, (1, 1), rngs=rngs)
        self.fc = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        for n, conv in zip(self.norms, self.convs, strict=True):
            x = jnp.concatenate([x, conv(nnx.relu(n(x)))], -1)
        x = nnx.avg_pool(self.shrinker(x), (2, 2), (2, 2))
        return self.fc(x.mean((1, 2)))


class MobileNetV2(nnx.Module):
    def __init__(self, rngs):
        self.stem, self.n0 = nnx.Conv(3, 4, (3, 3), use_bias=False, rngs=rngs), norm(4, rngs)
        self.expand, self.n1 = nnx.Conv(4, 8, (1, 1), use_bias=False, rngs=rngs), norm(8, rngs)
        self.depth = nnx.Conv(8, 8, (3, 3), feature_group_count=8, use_bias=False, rngs=rngs)
        self.n2, self.project = norm(8, rngs), nnx.Conv(8, 4, (1, 1), use_bias=False, rngs=rngs)
        self.n3, self.fc = norm(4, rngs), nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu6(self.n0(self.stem(x)))
        y = jax.nn.relu6(self.n1(self.expand(x)))
        y = jax.nn.relu6(self.n2(self.depth(y)))
        x = x + self.n3(self.project(y))
        return self.fc(x.mean((1, 2)))


class ShuffleNet(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.g1, self.n1 = nnx.Conv(8, 8, (1, 1), feature_group_count=2, rngs=rngs), norm(8, rngs)
        self.depth = nnx.Conv(8, 8, (3, 3), feature_group_count=8, rngs=rngs)
        self.g2, self.n2 = nnx.Conv(8, 8, (1, 1), feature_group_count=2, rngs=rngs), norm(8, rngs)
        self.fc = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        y = nnx.relu(self.n1(self.g1(x)))
        b, h, w, c = y.shape
        y = y.reshape(b, h, w, 2, c // 2).swapaxes(3, 4).reshape(b, h, w, c)
        y = self.n2(self.g2(self.depth(y)))
        return self.fc(nnx.relu(x + y).mean((1, 2)))


class SqueezeExcite(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        self.down, self.up = nnx.Linear(6, 4, rngs=rngs), nnx.Linear(4, 6, rngs=rngs)
        self.fc = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.silu(self.conv(x))
        gate = nnx.sigmoid(self.up(nnx.relu(self.down(x.mean((1, 2))))))
        return self.fc((x * gate[:, None, None, :]).mean((1, 2)))


class UNet(nnx.Module):
    def __init__(self, rngs):
        self.a, self.b = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Conv(4, 6, (3, 3), rngs=rngs)
        self.up = nnx.ConvTranspose(6, 5, (2, 2), strides=(2, 2), rngs=rngs)
        self.c, self.out = nnx.Conv(9, 4, (3, 3), rngs=rngs), nnx.Conv(4, 2, (1, 1), rngs=rngs)

    def __call__(self, x):
        a = nnx.relu(self.a(x))
        b = nnx.relu(self.b(nnx.max_pool(a, (2, 2), (2, 2))))
        return self.out(nnx.relu(self.c(jnp.concatenate([a, self.up(b)], -1))))


class ConvNeXt(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 8, (2, 2), strides=2, rngs=rngs)
        self.depth = nnx.Conv(8, 8, (7, 7), feature_group_count=8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.up, self.down = nnx.Linear(8, 12, rngs=rngs), nnx.Linear(12, 8, rngs=rngs)
        self.scale = nnx.Param(jnp.ones(8))
        self.fc = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        y = self.down(nnx.gelu(self.up(self.norm(self.depth(x)))))
        return self.fc((x + y * self.scale[...].reshape(1, 1, 1, -1)).mean((1, 2)))


class Attention(nnx.Module):
    """Multi-head attention whose kernels hold heads as an axis."""

    def __init__(self, width, heads, size, rngs):
        make = nnx.initializers.lecun_normal()
        self.q = nnx.Param(make(rngs.params(), (width, heads, size)))
        self.k = nnx.Param(make(rngs.params(), (width, heads, size)))
        self.v = nnx.Param(make(rngs.params(), (width, heads, size)))
        self.o = nnx.Param(make(rngs.params(), (heads, size, width)))

    def __call__(self, x):
        q, k, v = (jnp.einsum("btd,dhs->bths", x, w[...]) for w in (self.q, self.k, self.v))
        weights = jax.nn.softmax(jnp.einsum("bqhs,bkhs->bhqk", q, k) / jnp.sqrt(q.shape[-1]))
        return jnp.einsum("bhqk,bkhs,hsd->bqd", weights, v, self.o[...])


class ViT(nnx.Module):
    def __init__(self, rngs):
        self.patch = nnx.Conv(3, 8, (4, 4), strides=4, rngs=rngs)
        self.position = nnx.Param(jnp.zeros((1, 4, 8)))
        self.n1, self.attention = nnx.LayerNorm(8, rngs=rngs), Attention(8, 3, 5, rngs)
        self.n2 = nnx.LayerNorm(8, rngs=rngs)
        self.up, self.down = nnx.Linear(8, 12, rngs=rngs), nnx.Linear(12, 8, rngs=rngs)
        self.n3, self.fc = nnx.LayerNorm(8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = self.patch(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1]) + self.position[...]
        x = x + self.attention(self.n1(x))
        x = x + self.down(nnx.gelu(self.up(self.n2(x))))
        return self.fc(self.n3(x).mean(1))


class Mixer(nnx.Module):
    def __init__(self, rngs):
        self.patch = nnx.Conv(3, 6, (4, 4), strides=4, rngs=rngs)
        self.n1, self.t1, self.t2 = (
            nnx.LayerNorm(6, rngs=rngs),
            nnx.Linear(4, 7, rngs=rngs),
            nnx.Linear(7, 4, rngs=rngs),
        )
        self.n2, self.c1, self.c2 = (
            nnx.LayerNorm(6, rngs=rngs),
            nnx.Linear(6, 9, rngs=rngs),
            nnx.Linear(9, 6, rngs=rngs),
        )
        self.fc = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        x = self.patch(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        x = x + self.t2(nnx.gelu(self.t1(self.n1(x).swapaxes(1, 2)))).swapaxes(1, 2)
        x = x + self.c2(nnx.gelu(self.c1(self.n2(x))))
        return self.fc(x.mean(1))


class GroupNormResNet(nnx.Module):
    def __init__(self, rngs):
        self.stem, self.n0 = nnx.Conv(3, 12, (3, 3), rngs=rngs), nnx.GroupNorm(12, num_groups=4, rngs=rngs)
        self.c1, self.n1 = nnx.Conv(12, 8, (3, 3), rngs=rngs), nnx.GroupNorm(8, num_groups=4, rngs=rngs)
        self.c2, self.n2 = nnx.Conv(8, 12, (3, 3), rngs=rngs), nnx.GroupNorm(12, num_groups=4, rngs=rngs)
        self.fc = nnx.Linear(12, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.n0(self.stem(x)))
        y = self.n2(self.c2(nnx.relu(self.n1(self.c1(x)))))
        return self.fc(nnx.relu(x + y).mean((1, 2)))


class LSTM(nnx.Module):
    def __init__(self, rngs):
        self.cell = nnx.OptimizedLSTMCell(4, 6, rngs=rngs)
        self.fc = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        carry = (jnp.zeros((x.shape[0], 6), x.dtype), jnp.zeros((x.shape[0], 6), x.dtype))
        carry, _ = jax.lax.scan(lambda c, s: self.cell(c, s), carry, x.swapaxes(0, 1))
        return self.fc(carry[1])


class GRU(nnx.Module):
    def __init__(self, rngs):
        self.cell = nnx.GRUCell(4, 6, rngs=rngs)
        self.fc = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        carry = jnp.zeros((x.shape[0], 6), x.dtype)
        return self.fc(jax.lax.scan(lambda c, s: self.cell(c, s), carry, x.swapaxes(0, 1))[0])


class Shared(nnx.Module):
    """One hidden layer used twice: its input and output channels are the same ones."""

    def __init__(self, rngs):
        self.first, self.twice, self.fc = (nnx.Linear(a, b, rngs=rngs) for a, b in ((4, 6), (6, 6), (6, 3)))

    def __call__(self, x):
        x = nnx.tanh(self.first(x))
        return self.fc(nnx.tanh(self.twice(nnx.tanh(self.twice(x)))))


IMAGE, PATCHES, VECTOR, SEQUENCE = (2, 6, 6, 3), (2, 8, 8, 3), (2, 4), (2, 3, 4)
NETS = {
    "preact": (PreActBottleneck, IMAGE),
    "densenet": (DenseNet, IMAGE),
    "mobilenet": (MobileNetV2, IMAGE),
    "shufflenet": (ShuffleNet, IMAGE),
    "squeeze": (SqueezeExcite, IMAGE),
    "unet": (UNet, IMAGE),
    "convnext": (ConvNeXt, IMAGE),
    "vit": (ViT, PATCHES),
    "mixer": (Mixer, PATCHES),
    "groupnorm": (GroupNormResNet, IMAGE),
    "lstm": (LSTM, SEQUENCE),
    "gru": (GRU, SEQUENCE),
    "shared": (Shared, VECTOR),
}


def default_float():
    return jnp.zeros(()).dtype


def build(name):
    """(apply, variables as shapes, input as shape), of the default float type: float64 under x64."""
    make, shape = NETS[name]
    module = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    module.eval()
    graph, params, stats, rest = nnx.split(module, nnx.Param, nnx.BatchStat, ...)
    variables = {"params": nnx.to_pure_dict(params), "batch_stats": nnx.to_pure_dict(stats)}
    variables = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, default_float()), variables)

    def apply(variables, x):
        return nnx.merge(graph, variables["params"], variables["batch_stats"], rest)(x)

    return apply, variables, jax.ShapeDtypeStruct(shape, default_float())
