"""The same kinds of network in Linen: shapes are checked there, so small twins come from slim."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def norm(name):
    return nn.BatchNorm(use_running_average=True, name=name)


class PreActBottleneck(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), name="stem")(x)
        y = nn.relu(norm("n1")(x))
        skip = nn.Conv(10, (1, 1), strides=2, use_bias=False, name="down")(y)
        y = nn.relu(norm("n2")(nn.Conv(4, (1, 1), use_bias=False, name="c1")(y)))
        y = nn.relu(norm("n3")(nn.Conv(6, (3, 3), strides=2, use_bias=False, name="c2")(y)))
        y = nn.Conv(10, (1, 1), use_bias=False, name="c3")(y) + skip
        return nn.Dense(3, name="fc")(nn.relu(norm("last")(y)).mean((1, 2)))


class DenseNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), name="stem")(x)
        for k in range(3):
            y = nn.Conv(3, (3, 3), use_bias=False, name=f"conv{k}")(nn.relu(norm(f"norm{k}")(x)))
            x = jnp.concatenate([x, y], -1)
        x = nn.avg_pool(nn.Conv(5, (1, 1), name="shrinker")(x), (2, 2), (2, 2))
        return nn.Dense(3, name="fc")(x.mean((1, 2)))


class MobileNetV2(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu6(norm("n0")(nn.Conv(4, (3, 3), use_bias=False, name="stem")(x)))
        y = nn.relu6(norm("n1")(nn.Conv(8, (1, 1), use_bias=False, name="expand")(x)))
        y = nn.Conv(8, (3, 3), feature_group_count=8, use_bias=False, name="depth")(y)
        y = nn.Conv(4, (1, 1), use_bias=False, name="project")(nn.relu6(norm("n2")(y)))
        return nn.Dense(3, name="fc")((x + norm("n3")(y)).mean((1, 2)))


class ShuffleNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), name="stem")(x)
        y = nn.relu(norm("n1")(nn.Conv(8, (1, 1), feature_group_count=2, name="g1")(x)))
        y = y.reshape(*y.shape[:3], 2, 4).swapaxes(3, 4).reshape(y.shape)
        y = nn.Conv(8, (3, 3), feature_group_count=8, name="depth")(y)
        y = norm("n2")(nn.Conv(8, (1, 1), feature_group_count=2, name="g2")(y))
        return nn.Dense(3, name="fc")(nn.relu(x + y).mean((1, 2)))


class SqueezeExcite(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.silu(nn.Conv(6, (3, 3), name="conv")(x))
        gate = nn.relu(nn.Dense(4, name="down")(x.mean((1, 2), keepdims=True)))
        return nn.Dense(3, name="fc")((x * nn.sigmoid(nn.Dense(6, name="up")(gate))).mean((1, 2)))


class UNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        a = nn.relu(nn.Conv(4, (3, 3), name="a")(x))
        b = nn.relu(nn.Conv(6, (3, 3), name="b")(nn.max_pool(a, (2, 2), (2, 2))))
        b = nn.ConvTranspose(5, (2, 2), strides=(2, 2), name="up")(b)
        c = nn.relu(nn.Conv(4, (3, 3), name="c")(jnp.concatenate([a, b], -1)))
        return nn.Conv(2, (1, 1), name="out")(c)


class ConvNeXt(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (2, 2), strides=2, name="stem")(x)
        y = nn.LayerNorm(name="norm")(nn.Conv(8, (7, 7), feature_group_count=8, name="depth")(x))
        y = nn.Dense(8, name="down")(nn.gelu(nn.Dense(12, name="up")(y)))
        y = y * self.param("scale", nn.initializers.ones, (8,)).reshape(1, 1, 1, 8)
        return nn.Dense(3, name="fc")((x + y).mean((1, 2)))


class ViT(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (4, 4), strides=4, name="patch")(x)
        x = x.reshape(x.shape[0], -1, 8) + self.param("position", nn.initializers.zeros, (1, 4, 8))
        y = nn.LayerNorm(name="n1")(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=3, qkv_features=15, name="attention")(y, y)
        y = nn.gelu(nn.Dense(12, name="up")(nn.LayerNorm(name="n2")(x)))
        x = x + nn.Dense(8, name="down")(y)
        return nn.Dense(3, name="fc")(nn.LayerNorm(name="n3")(x).mean(1))


class FlatViT(nn.Module):
    """Attention as in PyTorch: dense layers, then a reshape into heads."""

    @nn.compact
    def __call__(self, x):
        b, t, _ = x.shape
        x = nn.Dense(8, name="embed")(x)
        q, k, v = jnp.split(nn.Dense(36, name="qkv")(x).reshape(b, t, 9, 4), 3, 2)
        weights = nn.softmax(jnp.einsum("bqhs,bkhs->bhqk", q, k) * 4**-0.5)
        y = jnp.einsum("bhqk,bkhs->bqhs", weights, v).reshape(b, t, 12)
        return nn.Dense(3, name="fc")((x + nn.Dense(8, name="out")(y)).mean(1))


class Mixer(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(6, (4, 4), strides=4, name="patch")(x)
        x = x.reshape(x.shape[0], -1, 6)
        y = nn.LayerNorm(name="n1")(x).swapaxes(1, 2)
        x = x + nn.Dense(4, name="t2")(nn.gelu(nn.Dense(7, name="t1")(y))).swapaxes(1, 2)
        y = nn.gelu(nn.Dense(9, name="c1")(nn.LayerNorm(name="n2")(x)))
        return nn.Dense(3, name="fc")((x + nn.Dense(6, name="c2")(y)).mean(1))


class GroupNormResNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.GroupNorm(num_groups=4, name="n0")(nn.Conv(12, (3, 3), name="stem")(x)))
        y = nn.relu(nn.GroupNorm(num_groups=4, name="n1")(nn.Conv(8, (3, 3), name="c1")(x)))
        y = nn.GroupNorm(num_groups=4, name="n2")(nn.Conv(12, (3, 3), name="c2")(y))
        return nn.Dense(3, name="fc")(nn.relu(x + y).mean((1, 2)))


class LSTM(nn.Module):
    @nn.compact
    def __call__(self, x):
        scan = nn.scan(
            nn.OptimizedLSTMCell,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
        )
        zeros = jnp.zeros((x.shape[0], 6), x.dtype)
        _, y = scan(6, name="cell")((zeros, zeros), x)
        return nn.Dense(3, name="fc")(y[:, -1])


class GRU(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="fc")(
            nn.RNN(nn.GRUCell(6), name="rnn")(x, initial_carry=jnp.zeros((x.shape[0], 6), x.dtype))[:, -1]
        )


class Stacked(nn.Module):
    """Residual layers stacked on a leading axis and run by nn.scan."""

    @nn.compact
    def __call__(self, x):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                return x + nn.Dense(6, name="down")(nn.relu(nn.Dense(5, name="up")(x))), None

        scan = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        x, _ = scan(name="layers")(nn.Dense(6, name="embed")(x), None)
        return nn.Dense(3, name="fc")(x)


class Shared(nn.Module):
    @nn.compact
    def __call__(self, x):
        twice = nn.Dense(6, name="twice")
        x = nn.tanh(nn.Dense(6, name="first")(x))
        return nn.Dense(3, name="fc")(nn.tanh(twice(nn.tanh(twice(x)))))


class TiedEmbedding(nn.Module):
    """A language model whose output reads the table that its input was looked up in."""

    @nn.compact
    def __call__(self, tokens):
        table = nn.Embed(7, 6, name="table")
        x = table(tokens)
        x = x + nn.Dense(6, name="down")(nn.relu(nn.Dense(5, name="up")(x)))
        return table.attend(x)


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
    "flat vit": (FlatViT, SEQUENCE),
    "mixer": (Mixer, PATCHES),
    "groupnorm": (GroupNormResNet, IMAGE),
    "lstm": (LSTM, SEQUENCE),
    "gru": (GRU, SEQUENCE),
    "stacked": (Stacked, VECTOR),
    "shared": (Shared, VECTOR),
    "tied": (TiedEmbedding, (2, 3)),
}


def default_float():
    return jnp.zeros(()).dtype


def build(name):
    """(apply, variables as shapes, input as shape), of the default float type: float64 under x64."""
    make, shape = NETS[name]
    module = make()
    x = jax.ShapeDtypeStruct(shape, "int32" if name == "tied" else default_float())
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, default_float()), variables)
    return module.apply, variables, x
