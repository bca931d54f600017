"""What kernels multiply, against networks written out in NumPy in float64."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.experiment import networks, specs
from prune_jax.pruning.evidence import gather, gatherer
from prune_jax.pruning.inputs.layout import Layout, channels_of_rows, to_leaf, to_matrices
from prune_jax.pruning.inputs.products import shifts_of, traced
from prune_jax.pruning.layouts.unstructured import kernels

RNG = np.random.default_rng(0)
ROUNDING = {"rtol": 2e-5, "atol": 2e-5}  # float32 sums of up to 200 numbers of size 1 against float64
BOTH = {"inputs", "input_grams"}


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def measured(apply, params, data, needs=BOTH):
    return gather(needs, params, data, apply=apply)


def check(evidence, path, x):
    """``x`` has all inputs of the leaf's weights: (entries, rows), or (blocks, entries, rows)."""
    x = np.asarray(x, np.float64)
    x = x if x.ndim == 3 else x[None]
    found, gram = evidence.inputs[path], evidence.input_grams[path]
    np.testing.assert_allclose(found.mean, x.mean(1), **ROUNDING)
    np.testing.assert_allclose(found.norm, np.sqrt((x**2).sum(1)), **ROUNDING)
    np.testing.assert_allclose(found.variance, x.var(1), **ROUNDING)
    np.testing.assert_array_equal(found.count, np.full(len(x), x.shape[1]))
    np.testing.assert_allclose(gram.matrix, x.transpose(0, 2, 1) @ x, rtol=2e-5, atol=2e-4)
    np.testing.assert_array_equal(gram.count, found.count)


def windows(x, size, stride=1, pad=0):
    """(examples, positions, size * size * features) of NHWC images, in the order of a kernel (h, w, features)."""
    x = np.pad(np.asarray(x, np.float64), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    n = (x.shape[1] - size) // stride + 1
    spots = [(i * stride, j * stride) for i in range(n) for j in range(n)]
    return np.stack([x[:, i : i + size, j : j + size].reshape(len(x), -1) for i, j in spots], 1)


def flat(x):
    return x.reshape(-1, x.shape[-1])


def test_two_layers_over_batches_of_different_sizes():
    params = {"a": draw(4, 6), "bias": draw(6), "b": draw(5, 6)}

    def apply(p, x):
        return jax.nn.relu(x @ p["a"] + p["bias"].reshape(1, -1)) @ p["b"].T  # b lies as PyTorch has it

    data = [draw(3, 4), draw(2, 4)]
    evidence = measured(apply, params, data)
    x = np.concatenate(data).astype(np.float64)
    check(evidence, "a", x)
    check(evidence, "b", np.maximum(x @ params["a"] + params["bias"], 0))
    assert evidence.inputs["a"].shift == ("bias", 1)
    assert evidence.inputs["b"].shift is None
    assert to_matrices(evidence.inputs["b"].layout, params["b"]).shape == (1, 6, 5)


def variables_of(model, x):
    """Random numbers in the shapes of the model's variables; positive, as a norm's variances are."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    return jax.tree.map(lambda leaf: np.abs(draw(*leaf.shape)) / 4, shapes)


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), use_bias=False, name="one")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True, name="norm")(x))
        x = nn.Conv(8, (3, 3), strides=2, padding="VALID", feature_group_count=4, name="grouped")(x)
        x = nn.Conv(8, (2, 2), padding="VALID", feature_group_count=8, use_bias=False, name="depthwise")(x)
        return nn.Dense(3, name="head")(nn.relu(x).reshape(x.shape[0], -1))


def test_convolutions_whole_grouped_and_depthwise():
    model, x = Convolutional(), draw(3, 7, 7, 3)
    variables = variables_of(model, x)
    _, state = jax.jit(functools.partial(model.apply, capture_intermediates=True))(variables, x)
    seen = {
        name: np.asarray(value["__call__"][0])
        for name, value in state["intermediates"].items()
        if name != "__call__"
    }
    evidence = measured(model.apply, variables, [x[:2], x[2:]])
    check(evidence, "params/one/kernel", flat(windows(x, 3, pad=1)))
    h = np.maximum(seen["norm"], 0)
    parts = [flat(windows(h[..., 2 * g : 2 * g + 2], 3, stride=2)) for g in range(4)]
    check(evidence, "params/grouped/kernel", np.stack(parts))
    each = [flat(windows(seen["grouped"][..., c : c + 1], 2)) for c in range(8)]
    check(evidence, "params/depthwise/kernel", np.stack(each))
    check(evidence, "params/head/kernel", np.maximum(seen["depthwise"], 0).reshape(3, -1))
    shifts = {path.split("/")[1]: one.shift for path, one in evidence.inputs.items()}
    assert shifts == {
        "one": ("batch_stats/norm/mean", -1),
        "grouped": ("params/grouped/bias", 1),
        "depthwise": None,
        "head": ("params/head/bias", 1),
    }


def test_a_product_over_several_axes_and_heads():
    model, x = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=6), draw(2, 5, 4)
    variables = variables_of(model, x)
    evidence = measured(model.apply, variables, [x])
    for name in ("query", "key", "value"):
        check(evidence, f"params/{name}/kernel", flat(x))
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    q, k, v = (
        np.einsum("btd,dhe->bthe", x, p[n]["kernel"]) + p[n]["bias"] for n in ("query", "key", "value")
    )
    weights = np.exp(np.einsum("bthe,bshe->bhts", q, k) / np.sqrt(3))
    mixed = np.einsum("bhts,bshe->bthe", weights / weights.sum(-1, keepdims=True), v)
    check(evidence, "params/out/kernel", mixed.reshape(10, 6))
    assert evidence.inputs["params/query/kernel"].shift == ("params/query/bias", 1)
    rows = channels_of_rows(evidence.inputs["params/out/kernel"].layout, 0, np.arange(2))
    assert rows.tolist() == [0, 0, 0, 1, 1, 1]  # the heads


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["plain", "jit", "remat"])
def test_a_kernel_that_is_used_twice_inside_other_programs_counts_twice(wrap):
    params = {"shared": draw(4, 4)}

    def apply(p, x):
        layer = wrap(lambda w, h: jax.nn.relu(h @ w))
        return layer(p["shared"], layer(p["shared"], x))

    x = draw(5, 4)
    h = np.maximum(x.astype(np.float64) @ params["shared"], 0)
    check(measured(apply, params, [x]), "shared", np.concatenate([x, h]))


def test_stacked_layers_of_a_scan_have_a_block_each_and_a_shared_one_all_steps():
    params = {"up": draw(3, 4, 6), "shift": draw(3, 6), "down": draw(6, 4)}

    def apply(p, x):
        def block(h, layer):
            up, shift = layer
            return h + jax.nn.relu(h @ up + shift.reshape(1, -1)) @ p["down"], None

        return jax.lax.scan(block, x, (p["up"], p["shift"]))[0]

    x = draw(5, 4)
    h, ups, downs = x.astype(np.float64), [], []
    for up, shift in zip(params["up"], params["shift"], strict=True):
        ups.append(h)
        downs.append(np.maximum(h @ up + shift, 0))
        h = h + downs[-1] @ params["down"]
    evidence = measured(apply, params, [x])
    check(evidence, "up", np.stack(ups))
    check(evidence, "down", np.concatenate(downs))
    assert evidence.inputs["up"].shift == ("shift", 1)


def test_experts_are_blocks():
    params = {"experts": draw(3, 4, 5)}
    x = draw(3, 6, 4)
    evidence = measured(lambda p, x: jnp.einsum("end,edf->enf", x, p["experts"]), params, [x], BOTH)
    check(evidence, "experts", x)


def test_a_kernel_in_half_precision_has_sums_in_float32():
    params = {"a": jnp.asarray(draw(4, 6), jnp.bfloat16)}
    x = draw(300, 4)
    half = jnp.asarray(x, jnp.bfloat16)
    evidence = measured(lambda p, x: x.astype(jnp.bfloat16) @ p["a"], params, [x])
    check(evidence, "a", np.asarray(half, np.float64))
    assert evidence.inputs["a"].total.dtype == jnp.float32


def loop(p, x):
    return jax.lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, s[1] @ p["a"]), (0, x))[1]


@pytest.mark.parametrize(
    "apply",
    [
        loop,
        lambda p, x: (x @ p["a"]) @ p["a"].T,  # rows here, columns there
        lambda p, x: x @ (p["a"] @ p["b"]),  # a product of weights
        lambda p, x: x + p["a"].sum(),
    ],
    ids=["loop", "two ways", "weights", "no product"],
)
def test_what_has_no_inputs_is_left_out(apply):
    params = {"a": draw(4, 4), "b": draw(4, 4)}
    assert "a" not in measured(apply, params, [draw(2, 4)], {"inputs"}).inputs


def test_a_scaled_kernel_is_followed_to_its_leaf():
    params = {"v": draw(4, 6), "scale": draw(6)}

    def apply(p, x):
        return x @ (p["v"] * (p["scale"] / jnp.linalg.norm(p["v"], axis=0)).reshape(1, -1))

    x = draw(3, 4)
    check(measured(apply, params, [x]), "v", x)


def test_a_bias_that_two_kernels_share_is_no_ones_own():
    params = {"a": draw(4, 4), "b": draw(4, 4), "bias": draw(4)}

    def apply(p, x):
        shift = p["bias"].reshape(1, -1)
        return jax.nn.relu(x @ p["a"] + shift) @ p["b"] + shift

    evidence = measured(apply, params, [draw(2, 4)], {"inputs"})
    assert [evidence.inputs[name].shift for name in ("a", "b")] == [None, None]


def test_a_bias_is_not_one_where_the_product_is_used_without_it_too():
    params = {"a": draw(4, 4), "bias": draw(4)}

    def apply(p, x):
        made = x @ p["a"]
        return (made + p["bias"].reshape(1, -1)) * made

    assert measured(apply, params, [draw(2, 4)], {"inputs"}).inputs["a"].shift is None


def test_what_is_needed_is_asked_for():
    with pytest.raises(ValueError, match="'input_grams' needs apply=function"):
        gatherer({"input_grams"})
    with pytest.raises(ValueError, match="'map_ranks' needs apply=function"):
        gatherer({"map_ranks"}, apply=lambda p, x: x)


@pytest.mark.parametrize(
    "layout",
    [
        Layout((3, 3, 2, 8), (3, 3, 2, 4, 2), (3,), (0, 1, 2), (4,)),
        Layout((2, 3, 5), (2, 3, 5), (), (0, 1), (2,)),
        Layout((5, 4), (5, 4), (), (1,), (0,)),
    ],
    ids=["grouped", "two axes", "transposed"],
)
def test_matrices_and_leaf_are_inverse(layout):
    leaf = draw(*layout.shape)
    np.testing.assert_array_equal(to_leaf(layout, to_matrices(layout, leaf)), leaf)


@pytest.mark.parametrize("name", ["mlp7_relu", "lenet5", "resnet8"])
def test_every_kernel_of_the_catalog_meets_data_and_has_a_shift(name):
    spec = specs.ModelSpec(name, (32, 32, 3), 10)
    network = networks.network_of(spec)
    found = traced(network.apply, network.variables, networks.example_of(spec))
    wanted = {f"params/{path}" for path in kernels(network.variables["params"]).values()}
    assert set(found.products) == wanted
    assert all(shift is not None for shift in shifts_of(found).values())
