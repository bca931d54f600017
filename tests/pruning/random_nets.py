"""Random networks: a plan drawn by hypothesis, read by one interpreter of small layers.

Every size is taken from the arguments' shapes where that is possible, so a plan without layers of a
fixed number of parts also runs on shrunk parameters as it is.
"""

import jax
import jax.numpy as jnp
from hypothesis import strategies as st
from jax import lax

IMAGE = ("NHWC", "HWIO", "NHWC")


def conv(x, w, groups=1):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=IMAGE, feature_group_count=groups)


def last(v):
    return v.reshape(1, 1, 1, -1)


class Plan:
    """Collects parameter shapes while a network is drawn; layers are closures over their names."""

    def __init__(self):
        self.shapes, self.layers, self.fixed_parts = {}, [], False

    def new(self, *shape):
        name = f"p{len(self.shapes)}"
        self.shapes[name] = shape
        return name


def _conv(plan, width, draw):
    out = draw(st.sampled_from((2, 4, 6)))
    w, b = plan.new(3, 3, width, out), plan.new(out)
    return lambda p, x: jax.nn.sigmoid(conv(x, p[w]) + last(p[b])), out


def _residual(plan, width, draw):
    inner = draw(st.sampled_from((3, 4)))
    a, b = plan.new(1, 1, width, inner), plan.new(1, 1, inner, width)
    return lambda p, x: x + conv(jax.nn.relu(conv(x, p[a])), p[b]), width


def _dense_block(plan, width, draw):
    grow = draw(st.sampled_from((2, 3)))
    w = plan.new(3, 3, width, grow)
    return lambda p, x: jnp.concatenate([x, conv(x, p[w])], -1), width + grow


def _branches(plan, width, draw):
    a, b = plan.new(1, 1, width, 4), plan.new(3, 3, width, 4)
    join = draw(st.sampled_from((jnp.add, jnp.multiply, jnp.maximum)))
    return lambda p, x: join(conv(x, p[a]), jnp.tanh(conv(x, p[b]))), 4


def _gate(plan, width, draw):
    w = plan.new(1, 1, width, 6)

    def layer(p, x):
        a, b = jnp.split(conv(x, p[w]), 2, -1)
        return a * jax.nn.sigmoid(b)

    return layer, 3


def _norm(plan, width, draw):
    mean, scale, bias = plan.new(width), plan.new(width), plan.new(width)
    return lambda p, x: (x - last(p[mean])) * last(p[scale]) + last(p[bias]), width


def _layer_norm(plan, width, draw):
    def layer(p, x):
        x = x - x.mean(-1, keepdims=True)
        return x * lax.rsqrt(x.var(-1, keepdims=True) + 1e-3)

    return layer, width


def _depthwise(plan, width, draw):
    plan.fixed_parts = True
    w = plan.new(3, 3, 1, width)
    return lambda p, x: conv(x, p[w], groups=width), width


def _grouped(plan, width, draw):
    groups = 2 if width % 2 == 0 else 1
    plan.fixed_parts = plan.fixed_parts or groups > 1
    w = plan.new(3, 3, width // groups, 4)
    return lambda p, x: conv(x, p[w], groups=groups), 4


def _shuffle(plan, width, draw):
    if width % 2:
        return lambda p, x: x, width
    plan.fixed_parts = True
    return lambda p, x: x.reshape(*x.shape[:3], 2, width // 2).swapaxes(3, 4).reshape(x.shape), width


def _twice(plan, width, draw):
    w = plan.new(1, 1, width, width)
    return lambda p, x: jnp.tanh(conv(jnp.tanh(conv(x, p[w])), p[w])), width


def _excite(plan, width, draw):
    a, b = plan.new(width, 3), plan.new(3, width)

    def layer(p, x):
        gate = jax.nn.sigmoid(jax.nn.relu(x.mean((1, 2)) @ p[a]) @ p[b])
        return x * gate[:, None, None, :]

    return layer, width


def _heads(plan, width, draw):
    plan.fixed_parts = True
    q, k, v, o = (plan.new(width, 4), plan.new(width, 4), plan.new(width, 6), plan.new(6, width))

    def layer(p, x):
        b, h, w, c = x.shape
        flat = x.reshape(b, h * w, c)
        q_, k_, v_ = ((flat @ p[name]).reshape(b, h * w, 2, -1) for name in (q, k, v))
        weights = jax.nn.softmax(jnp.einsum("bqhs,bkhs->bhqk", q_, k_))
        y = jnp.einsum("bhqk,bkhs->bqhs", weights, v_).reshape(b, h * w, -1)
        return x + (y @ p[o]).reshape(x.shape)

    return layer, width


def _reorder(plan, width, draw):
    order = jnp.asarray(draw(st.permutations(range(width))))
    plan.fixed_parts = True
    return lambda p, x: x[..., order], width


LAYERS = (
    _conv, _residual, _dense_block, _branches, _gate, _norm, _layer_norm, _depthwise, _grouped, _shuffle, _twice,
    _excite, _heads, _reorder,
)  # fmt: skip


@st.composite
def networks(draw, layers=LAYERS, longest=5):
    """(apply, shapes of params, shape of the input, whether parts are counted in the code)."""
    plan = Plan()
    width = draw(st.sampled_from((4, 6)))
    stem = plan.new(3, 3, 2, width)
    for make in draw(st.lists(st.sampled_from(layers), min_size=1, max_size=longest)):
        layer, width = make(plan, width, draw)
        plan.layers.append(layer)
    flatten = draw(st.booleans())
    head = plan.new(9 * width if flatten else width, 3)

    def apply(params, x):
        x = conv(x, params[stem])
        for layer in plan.layers:
            x = layer(params, x)
        return (x.reshape(x.shape[0], -1) if flatten else x.mean((1, 2))) @ params[head]

    shapes = {name: jax.ShapeDtypeStruct(shape, "float64") for name, shape in plan.shapes.items()}
    return apply, shapes, jax.ShapeDtypeStruct((2, 3, 3, 2), "float64"), plan.fixed_parts
