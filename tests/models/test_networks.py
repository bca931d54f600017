"""Each network's own facts: initial distributions, ties between widths, options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax import models


def build(name, shape=(32, 32, 3), classes=7, seed=0, **arguments):
    key = jax.random.key(seed)
    return models.functional(
        models.create(name, num_classes=classes, input_shape=shape, key=key, **arguments)
    )


def abstract_params(name, shape=(32, 32, 3), **arguments):
    module = models.abstract(name, num_classes=10, input_shape=shape, **arguments)
    return models.functional(module).variables["params"]


def mlp_jacobian(net, size):
    x = np.random.default_rng(0).normal(size=(1, size)).astype(np.float32)
    jacobian = jax.jacrev(lambda x: net.apply(net.variables, x)[0])(x)
    return np.asarray(jacobian).reshape(-1, size)


def test_orthogonal_linear_network_is_an_isometry_onto_its_logits():
    # The input is at least as wide as the layers; a narrower one spans only a part of them.
    singular = np.linalg.svd(mlp_jacobian(build("mlp7_linear", (100,)), 100), compute_uv=False)
    np.testing.assert_allclose(singular, np.ones(7), atol=1e-5)


def test_orthogonal_relu_layers_carry_the_gain_of_the_relu():
    params = build("mlp7_relu", (100,)).variables["params"]
    for i in range(6):
        kernel = np.asarray(params["layers"][i]["kernel"], np.float64)
        np.testing.assert_allclose(kernel.T @ kernel, 2 * np.eye(100), atol=1e-4)
    head = np.asarray(params["head"]["kernel"], np.float64)
    np.testing.assert_allclose(head.T @ head, np.eye(7), atol=1e-5)
    assert not any(np.any(layer["bias"]) for layer in params["layers"].values())


def test_relu_network_at_a_fixed_pattern_is_the_masked_matrix_product():
    net = models.functional(models.abstract("mlp7_relu", num_classes=7, input_shape=(20,), depth=3))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), net.variables["params"])
    x = rng.normal(size=(5, 20))
    y = x
    for i in range(2):
        y = np.maximum(y @ params["layers"][i]["kernel"] + params["layers"][i]["bias"], 0)
    want = y @ params["head"]["kernel"] + params["head"]["bias"]
    single = jax.tree.map(np.float32, {"params": params, "batch_stats": {}})
    got = net.apply(single, x.astype(np.float32))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


def test_mlp_options_set_depth_width_and_reach_single_layers():
    params = abstract_params("mlp7_linear", (8, 8, 1), hidden=50, depth=3, widths={"layers/1": 5})
    assert [params["layers"][i]["kernel"].shape for i in range(2)] == [(64, 50), (50, 5)]
    assert params["head"]["kernel"].shape == (5, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "ortogonal"}, "unknown init 'ortogonal'; did you mean 'orthogonal'"),
        ({"depth": 1}, "depth .* at least 2, got 1"),
        ({"hidden": 0}, "hidden must be at least 1, got 0"),
    ],
)
def test_mlp_refuses_options_without_meaning(options, message):
    with pytest.raises(ValueError, match=message):
        abstract_params("mlp7_relu", (64,), **options)


def test_dense_default_is_uniform_within_one_over_root_fan_in():
    params = build("mlp7_relu", (400,), hidden=300, depth=2, init="default").variables["params"]
    for leaf in (params["layers"][0]["kernel"], params["layers"][0]["bias"]):
        assert np.abs(leaf).max() <= 1 / 20
        assert np.abs(leaf).max() > 0.95 / 20
    # Variance of U(-a, a) is a^2 / 3; 120,000 draws put it within 2 %.
    assert np.var(params["layers"][0]["kernel"]) == pytest.approx(1 / 400 / 3, rel=0.02)


def test_convolutions_are_he_normal_by_fan_out_and_norms_start_at_one_and_zero():
    # Under jit only what is returned is computed, so that one kernel is drawn and not all.
    def last_block(key):
        module = models.create("resnet8", num_classes=7, input_shape=(32, 32, 3), key=key)
        block = models.functional(module).variables["params"]["blocks"][2]
        return {name: block[name] for name in ("conv1", "bn1", "bn2")}

    block = jax.jit(last_block)(jax.random.key(0))
    # conv1 of the last stage: 3x3x32 -> 64; 18,432 draws put the variance within 5 %.
    kernel = np.asarray(block["conv1"]["kernel"])
    assert np.var(kernel) == pytest.approx(2 / (9 * 64), rel=0.05)
    # A normal has kurtosis 3, a uniform 1.8, a normal truncated at two deviations 2.4.
    assert np.mean(kernel**4) / np.var(kernel) ** 2 == pytest.approx(3, abs=0.2)
    assert "bias" not in block["conv1"]
    for norm in (block["bn1"], block["bn2"]):
        assert np.all(np.asarray(norm["scale"]) == 1)
        assert np.all(np.asarray(norm["bias"]) == 0)


def test_zero_init_residual_silences_the_last_norm_of_each_block_only():
    def scales(key):
        module = models.create(
            "resnet50", num_classes=10, input_shape=(32, 32, 3), key=key, zero_init_residual=True
        )
        blocks = models.functional(module).variables["params"]["blocks"]
        return [[block[norm]["scale"] for norm in ("bn1", "bn2", "bn3")] for block in blocks.values()]

    for first, second, last in jax.jit(scales)(jax.random.key(0)):
        assert np.all(np.asarray(first) == 1)
        assert np.all(np.asarray(second) == 1)
        assert not np.any(last)


def test_a_narrower_stem_takes_as_many_channels_from_every_stage_of_option_a():
    params = abstract_params("resnet14", widths={"stem": 10})
    assert params["stem"]["kernel"].shape[-1] == 10
    outs = [params["blocks"][i]["conv2"]["kernel"].shape[-1] for i in range(6)]
    assert outs == [10, 10, 26, 26, 58, 58]
    assert params["head"]["kernel"].shape[0] == 58
    assert [params["blocks"][i]["conv1"]["kernel"].shape[-1] for i in range(6)] == [16, 16, 32, 32, 64, 64]


def test_cutting_stem_channels_of_option_a_keeps_the_zero_padding_in_place():
    """Zeroing stem channel c everywhere equals removing it: position c, 8 + c, 24 + c downstream."""
    net = models.functional(models.abstract("resnet8", num_classes=7, input_shape=(9, 9, 3)))
    rng = np.random.default_rng(3)
    variables = jax.tree.map(lambda leaf: rng.uniform(0, 0.2, leaf.shape).astype("f"), net.variables)
    gone = np.array([0, 5, 15])

    def positions(size):
        return np.setdiff1d(np.arange(size), gone + {16: 0, 32: 8, 64: 24}[size])

    def cut(params, zero):
        def keep(leaf, axis):
            kept = positions(leaf.shape[axis])
            if zero:
                mask = np.zeros([leaf.shape[axis] if i == axis % leaf.ndim else 1 for i in range(leaf.ndim)])
                mask.reshape(-1)[kept] = 1
                return leaf * np.broadcast_to(mask, leaf.shape).astype(np.float32)
            return np.take(leaf, kept, axis=axis)

        blocks = {
            i: b
            | {
                "conv1": {"kernel": keep(b["conv1"]["kernel"], 2)},
                "conv2": {"kernel": keep(b["conv2"]["kernel"], 3)},
                "bn2": {k: keep(v, 0) for k, v in b["bn2"].items()},
            }
            for i, b in params["blocks"].items()
        }
        head = {"kernel": keep(params["head"]["kernel"], 0), "bias": params["head"]["bias"]}
        return {
            "stem": {"kernel": keep(params["stem"]["kernel"], 3)},
            "bn": {k: keep(v, 0) for k, v in params["bn"].items()},
            "blocks": blocks,
            "head": head,
        }

    stats = variables["batch_stats"]
    small_stats = {
        "bn": {k: v[positions(16)] for k, v in stats["bn"].items()},
        "blocks": {
            i: b | {"bn2": {k: v[positions(len(v))] for k, v in b["bn2"].items()}}
            for i, b in stats["blocks"].items()
        },
    }
    x = rng.normal(size=(2, 9, 9, 3)).astype("f")
    masked = jax.jit(net.apply)({"params": cut(variables["params"], True), "batch_stats": stats}, x)
    small = jax.jit(net.apply)({"params": cut(variables["params"], False), "batch_stats": small_stats}, x)
    np.testing.assert_allclose(small, masked, rtol=1e-4, atol=1e-4 * np.abs(masked).max())


@pytest.mark.parametrize(
    ("name", "layer", "leader"),
    [
        ("resnet20", "blocks/4/conv2", "stem"),
        ("resnet20", "blocks/3/conv2", "stem"),
        ("resnet18", "blocks/1/conv2", "stem"),
        ("resnet34", "blocks/4/conv2", "blocks/3/conv2"),
        ("resnet34", "blocks/3/down", "blocks/3/conv2"),
        ("resnet50", "blocks/0/down", "blocks/0/conv3"),
        ("resnet50", "blocks/2/conv3", "blocks/0/conv3"),
    ],
)
def test_tied_layers_are_refused_and_their_leader_named(name, layer, leader):
    with pytest.raises(ValueError, match=f"'{layer}' has no width of its own; .*'{leader}'"):
        abstract_params(name, widths={layer: 8})


def test_the_leader_of_a_stream_sets_it_for_the_whole_stage():
    params = abstract_params("resnet34", widths={"blocks/3/conv2": 40, "stem": 20})
    outs = [params["blocks"][i]["conv2"]["kernel"].shape[-1] for i in range(16)]
    assert outs == [20] * 3 + [40] * 4 + [256] * 6 + [512] * 3
    assert params["blocks"][3]["down"]["kernel"].shape == (1, 1, 20, 40)
    assert params["blocks"][7]["conv1"]["kernel"].shape == (3, 3, 40, 256)


def test_the_leaders_of_a_bottleneck_network_leave_the_stem_free():
    params = abstract_params("resnet50", widths={"stem": 20, "blocks/0/conv3": 30, "blocks/1/conv2": 5})
    assert params["blocks"][0]["down"]["kernel"].shape == (1, 1, 20, 30)
    assert params["blocks"][1]["conv1"]["kernel"].shape == (1, 1, 30, 64)
    assert params["blocks"][1]["conv3"]["kernel"].shape == (1, 1, 5, 30)
    assert params["blocks"][3]["conv1"]["kernel"].shape == (1, 1, 30, 128)


@pytest.mark.parametrize("name", ["resnet8", "resnet20", "lenet5", "conv5_bn"])
def test_grey_images_of_28_pixels_are_accepted(name):
    module = models.abstract(name, num_classes=10, input_shape=(28, 28, 1))
    net = models.functional(module)
    x = jax.ShapeDtypeStruct((4, 28, 28, 1), jnp.float32)
    assert jax.eval_shape(net.apply, net.variables, x).shape == (4, 10)


def test_widths_and_strides_of_the_plain_stack_are_arguments():
    net = models.functional(
        models.abstract("conv5_bn", num_classes=3, input_shape=(9, 9, 2), channels=(4, 6), strides=(1, 2))
    )
    kernels = [net.variables["params"]["convs"][i]["kernel"].shape for i in range(2)]
    assert kernels == [(3, 3, 2, 4), (3, 3, 4, 6)]
    x = jax.ShapeDtypeStruct((1, 9, 9, 2), jnp.float32)
    assert jax.eval_shape(net.apply, net.variables, x).shape == (1, 3)
    with pytest.raises(
        ValueError, match=r"channels \(4, 6\) and strides \(1,\): give at least one convolution"
    ):
        models.abstract("conv5_bn", num_classes=3, input_shape=(9, 9, 2), channels=(4, 6), strides=(1,))
