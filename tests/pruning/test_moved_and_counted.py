"""Numbers that are only moved, placed or counted out, and constants that happen to equal a size: nothing freezes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import law
import numpy as np
import pytest

from prune_jax.pruning import allocation
from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.heads import head_groups
from prune_jax.pruning.masks import apply_mask, expand
from prune_jax.pruning.surgery import shrink, slim

RELU = jax.nn.relu


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def laid_out(x):
    return jax.lax.with_sharding_constraint(x, jax.sharding.SingleDeviceSharding(jax.devices()[0]))


@jax.custom_batching.custom_vmap
def shifted(h):
    return h + 1.0


@shifted.def_vmap
def _(size, batched, h):
    return h + 1.0, batched[0]


def table():
    return jnp.sin(jnp.arange(64.0)).reshape(8, 8)


def looped(h, numbers):
    """A loop whose body uses a table from outside, one from inside, and returns a constant as well."""

    def step(carry, _):
        return jnp.tanh(carry) * numbers + jnp.arange(8.0)[None], jnp.arange(8.0)

    last, rows = jax.lax.scan(step, h, length=2)
    return last + rows.sum(0)[None]


def branched(h, numbers):
    return h + jax.lax.cond(h.sum() > 0, lambda h: h * numbers, lambda h: jnp.ones((4, 8)) * numbers, h)


NO_GRADIENT = ("composite", "custom_vmap")  # JAX has none for them
BODIES = {
    "composite": lambda p, x: jax.lax.composite(lambda h: jnp.sin(h), "a.sine")(x @ p["a"] + x @ p["c"]),
    "unstack": lambda p, x: sum(jnp.unstack(jnp.stack([RELU(x @ p["a"]), x @ p["c"]], 1), axis=1)),
    "custom_vmap": lambda p, x: jnp.sin(x @ p["a"]) * shifted(x @ p["c"]),
    "qr": lambda p, x: (x @ p["a"] + x @ p["c"]) * jnp.linalg.qr(table())[0][:4],
    "orthogonal": lambda p, x: (x @ p["a"] + x @ p["c"]) * jax.random.orthogonal(jax.random.key(1), 8)[:4],
    "normalised": lambda p, x: (x @ p["a"] + x @ p["c"]) * (table() / table().sum(1, keepdims=True))[:4],
    "loop": lambda p, x: looped(x @ p["a"] + x @ p["c"], table()[:1]),
    "branch": lambda p, x: branched(x @ p["a"] + x @ p["c"], table()[:1]),
    "custom_jvp": lambda p, x: jax.nn.relu(table()[:4]) * jax.nn.silu(x @ p["a"] + x @ p["c"]),
    "solved": lambda p, x: (x @ p["a"] + x @ p["c"]) * jnp.linalg.solve(jnp.eye(8) + 0.1, jnp.ones(8))[None],
    "sorted": lambda p, x: (x @ p["a"] + x @ p["c"]) * jnp.sort(jnp.sin(jnp.arange(8.0)))[None],
    "stack": lambda p, x: jnp.stack([RELU(x @ p["a"]), x @ p["c"]]).sum(0),
    "device_put": lambda p, x: jax.device_put(RELU(x @ p["a"] + p["c"][:1])),
    "sharding_constraint": lambda p, x: laid_out(RELU(x @ p["a"] + p["c"][:1])),
    "iota": lambda p, x: RELU(x @ p["a"] + p["c"][:1]) + jnp.arange(8.0).reshape(1, 8),
    "sine table": lambda p, x: (
        RELU(x @ p["a"] + p["c"][:1])
        + jnp.sin(jnp.arange(4.0)[:, None] * 100.0 ** -(jnp.arange(8) / 8)[None])
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_channels_stay_open_and_masked_equals_small(name):
    shapes = {"a": (3, 8), "b": (8, 2), "c": (3, 8)}
    params = law.numbers({k: jax.ShapeDtypeStruct(shape, "float64") for k, shape in shapes.items()})
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))

    def apply(p, x):
        return BODIES[name](p, x) @ p["b"]

    groups = find_groups(apply, params, x)
    assert [(g.name, g.size, g.maskable) for g in groups if g.frozen is None] == [("a", 8, True)]
    law.check(apply, params, groups, {"a": np.array([0, 2, 3, 7])}, x, gradients=name not in NO_GRADIENT)


def test_a_table_used_twice_ties_nothing():
    numbers = np.linspace(-1.0, 1.0, 8).reshape(1, 8)
    shapes = {"a": (3, 8), "b": (8, 8), "c": (8, 2)}
    params = law.numbers({k: jax.ShapeDtypeStruct(shape, "float64") for k, shape in shapes.items()})
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))

    def apply(p, x):
        steps = jnp.asarray(numbers) + jnp.arange(8.0)[None]
        return (jnp.tanh((x @ p["a"] * steps) @ p["b"]) * steps) @ p["c"]

    groups = find_groups(apply, params, x)
    assert [(g.name, g.size) for g in groups if g.frozen is None] == [("a", 8), ("b", 8)]
    law.check(apply, params, groups, {"a": np.array([0, 7]), "b": np.array([1, 2, 5])}, x)


def test_resharded_numbers_are_the_same_numbers():
    spec = jax.sharding.PartitionSpec(None, None)
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    params = {"a": jnp.ones((3, 8)), "b": jnp.ones((8, 2))}
    with jax.set_mesh(mesh):
        groups = find_groups(
            lambda p, x: jax.sharding.reshard(RELU(x @ p["a"]), spec) @ p["b"], params, jnp.ones((4, 3))
        )
    assert [(g.name, g.size) for g in groups if g.frozen is None] == [("a", 8)]


def test_channels_that_number_matrices_stay_open():
    shapes = {"a": (3, 8), "b": (8, 2)}
    params = law.numbers({k: jax.ShapeDtypeStruct(shape, "float64") for k, shape in shapes.items()})
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))

    def apply(p, x):
        h = x @ p["a"]
        roots = jax.lax.linalg.cholesky((h * h + 1)[..., None, None] * (jnp.eye(2) + 0.1)[None, None])
        return (h * roots[..., 1, 0]) @ p["b"]

    groups = find_groups(apply, params, x)
    assert [(g.name, g.size, g.maskable) for g in groups if g.frozen is None] == [("a", 8, False)]
    keep = {"a": np.array([1, 4])}
    small = shrink(params, groups, keep)
    np.testing.assert_allclose(
        slim(apply, params, groups, keep, x)(small, x), apply(small, x), rtol=1e-12
    )  # its code takes every size from shapes


def attention(p, x, project, join):
    """Rotary attention of 4 heads of 6 dimensions, every two dimensions rotated together."""
    q, k, v = (project(x, p[n]).reshape(-1, 4, 6) for n in "qkv")

    def turn(t):
        sin, cos = (
            jnp.repeat(f(jnp.arange(4.0)[:, None] * jnp.arange(3.0)[None]), 2, 1)[:, None]
            for f in (jnp.sin, jnp.cos)
        )
        return t * cos + join(-t[..., 1::2], t[..., ::2]).reshape(t.shape) * sin

    weights = jax.nn.softmax(jnp.einsum("thd,shd->hts", turn(q), turn(k)))
    return jnp.einsum("hts,shd->thd", weights, v)


JOINS = {
    "stack": lambda a, b: jnp.stack((a, b), -1),
    "concatenate": lambda a, b: jnp.concatenate((a[..., None], b[..., None]), -1),
}


def halves(t):
    """Dimensions j and j + 3 of 6 turned together, as Llama has it."""
    a, b = jnp.split(t, 2, -1)
    sin, cos = (f(jnp.arange(4.0)[:, None] * jnp.arange(3.0)[None])[:, None] for f in (jnp.sin, jnp.cos))
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def neighbours(t):
    """Dimensions 2 j and 2 j + 1 turned together, taken apart by a reshape."""
    a, b = jnp.moveaxis(t.reshape(*t.shape[:-1], 3, 2), -1, 0)
    sin, cos = (f(jnp.arange(4.0)[:, None] * jnp.arange(3.0)[None])[:, None] for f in (jnp.sin, jnp.cos))
    return jnp.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(t.shape)


def flat(turn, scale, heads=4, fused=False):
    """Attention whose kernels have one axis for heads and their 6 dimensions; ``fused``: for q, k and v as well."""

    def apply(p, x):
        split = x.shape[0], heads, 6
        if fused:
            q, k, v = jnp.moveaxis((x @ p["q"]).reshape(split[0], 3, *split[1:]), 1, 0)
        else:
            q, k, v = ((x @ p[n]).reshape(split) for n in "qkv")
        weights = jax.nn.softmax(jnp.einsum("thd,shd->hts", turn(q), turn(k)) * scale)
        return jnp.einsum("hts,shd->thd", weights, v).reshape(split[0], -1) @ p["o"]

    return apply


TURNED = {halves: [0, 1, 2] * 2, neighbours: [0, 0, 1, 1, 2, 2]}


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("turn", TURNED)
def test_rotary_dimensions_of_flat_kernels_go_in_pairs_and_heads_as_a_whole(turn, fused):
    shapes = {"q": (3, 72)} if fused else dict.fromkeys("qkv", (3, 24))
    shapes["o"] = (24, 2)
    params = law.numbers({k: jax.ShapeDtypeStruct(shape, "float64") for k, shape in shapes.items()})
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))
    groups = find_groups(flat(turn, 1.0, fused=fused), params, x)
    free = {g.name: g for g in groups if g.frozen is None}
    assert {name: g.size for name, g in free.items()} == {"q": 4, "q:inner": 3}
    assert free["q:inner"].producer.index.tolist()[:24] == TURNED[turn] * 4
    assert [g.name for g in head_groups(groups, params)] == ["q"]
    keep = {"q": np.array([0, 2, 3]), "q:inner": np.array([0, 2])}
    law.check(flat(turn, 1.0, fused=fused), params, groups, keep, x)


def test_pairs_inside_of_heads_are_cut_only_where_a_pattern_says_so():
    shapes = {k: jax.ShapeDtypeStruct((3, 24) if k != "o" else (24, 2), "float32") for k in "qkvo"}
    groups = find_groups(flat(halves, 1.0), shapes, jax.ShapeDtypeStruct((4, 3), "float32"))
    named = {p: [g.name for g in allocation.chosen(groups, (p,))] for p in ("*", "q*", "*:inner", "q:inner")}
    assert named == {"*": ["q"], "q*": ["q"], "*:inner": ["q:inner"], "q:inner": ["q:inner"]}


def test_the_scale_of_flat_rotary_heads_follows_their_pairs():
    params = law.numbers(
        {k: jax.ShapeDtypeStruct((3, 24) if k != "o" else (24, 2), "float64") for k in "qkvo"}
    )
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))
    apply = flat(halves, 6**-0.5)
    groups = find_groups(apply, params, x)
    keep = {"q": np.array([1, 2]), "q:inner": np.array([0, 1])}
    (pairs,) = (g for g in groups if g.name == "q:inner")
    assert not pairs.maskable
    ours = slim(apply, params, groups, keep, x)(shrink(params, groups, keep), x)
    masked = apply_mask(params, expand(params, groups, keep))
    np.testing.assert_allclose(ours, flat(halves, 4**-0.5)(masked, x), rtol=1e-12)  # 2 pairs of 3 are left


def test_dimensions_of_flat_heads_that_nothing_pairs_stay_with_their_head():
    shapes = dict.fromkeys("qkv", (3, 24)) | {"o": (24, 2)}
    params = {k: jax.ShapeDtypeStruct(shape, "float32") for k, shape in shapes.items()}
    groups = find_groups(flat(lambda t: t, 1.0), params, jax.ShapeDtypeStruct((4, 3), "float32"))
    assert {g.name: g.size for g in groups if g.frozen is None} == {"q": 4}


@pytest.mark.parametrize("join", JOINS)
def test_rotary_heads_of_flat_kernels_are_cut_as_a_whole(join):
    shapes = dict.fromkeys("qkv", (3, 24)) | {"o": (24, 2)}
    params = law.numbers({k: jax.ShapeDtypeStruct(shape, "float64") for k, shape in shapes.items()})
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))

    def apply(p, x):
        return attention(p, x, jnp.matmul, JOINS[join]).reshape(-1, 24) @ p["o"]

    groups = find_groups(apply, params, x)
    free = {g.name: (g.size, len(g.members)) for g in groups if g.frozen is None}
    assert free == {"q": (4, 4), "q:inner": (3, 2)}
    law.check(apply, params, groups, {"q": np.array([1, 3])}, x)


def test_rotary_dimensions_go_in_pairs():
    shapes = dict.fromkeys("qkv", (3, 4, 6)) | {"o": (4, 6, 2)}
    params = law.numbers({k: jax.ShapeDtypeStruct(shape, "float64") for k, shape in shapes.items()})
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))

    def apply(p, x):
        heads = attention(p, x, lambda x, w: jnp.einsum("ti,ihd->thd", x, w), JOINS["stack"])
        return jnp.einsum("thd,hdo->to", heads, p["o"])

    groups = find_groups(apply, params, x)
    free = {g.name: g.size for g in groups if g.frozen is None}
    assert free == {"q:1": 4, "q:2": 3, "v": 6}
    law.check(
        apply, params, groups, {"q:1": np.array([0, 3]), "q:2": np.array([1]), "v": np.array([0, 4, 5])}, x
    )


class Scaled(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        return nn.Dense(2)(nn.Embed(9, 16)(tokens) * np.sqrt(16))


class Coincidence(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        return nn.Dense(2)(RELU(nn.Dense(64)(nn.Embed(9, 3)(tokens))) * 0.125)


@pytest.mark.parametrize(("net", "size", "constant"), [(Scaled(), 16, 4.0), (Coincidence(), 64, 0.125)])
def test_a_constant_that_equals_a_power_of_a_size_stays_and_is_named(net, size, constant):
    tokens = jnp.array([0, 3, 8])
    params = law.numbers(jax.eval_shape(net.init, jax.random.key(0), tokens))
    groups = find_groups(net.apply, params, tokens)
    group = next(g for g in groups if g.frozen is None and g.size == size)
    assert group.constants == (constant,)
    assert group.maskable
    law.check(net.apply, params, groups, {group.name: np.arange(0, size, 3)}, tokens)
