"""What every network promises, whatever its name."""

import functools
from fnmatch import fnmatch

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_network import EVERY

from prune_jax import models

SHAPE = (32, 32, 3)
SHAPES = {"decoder": (6,)}
CLASSES = 7
# Two networks that compile in a second or so; the others are followed on abstract values only.
SMALL = ("lenet5", "conv5_bn", "resnet8")


def shape_of(name):
    return SHAPES.get(name, SHAPE)


def logits_shape(name):
    return (2, *(shape_of(name) if name == "decoder" else ()), CLASSES)


@functools.cache
def abstract(name, widths=(), shape=None):
    shape = shape or shape_of(name)
    module = models.abstract(name, num_classes=CLASSES, input_shape=shape, widths=dict(widths))
    return models.functional(module)


# What is drawn is small: an eighth of the filters that the paper prunes, images of 8 pixels into dense layers.
DRAWN = {"mlp7_linear": (8, 8, 3), "mlp7_relu": (8, 8, 3)}


def narrow(name):
    return tuple((layer, -(-n // 8)) for layer, n in pruned_layers(name))


def created(name, seed=0):
    module = models.create(
        name,
        num_classes=CLASSES,
        input_shape=DRAWN.get(name, shape_of(name)),
        widths=dict(narrow(name)),
        key=jax.random.key(seed),
    )
    return models.functional(module)


@functools.cache
def filled(name):
    """The network with NumPy's numbers: compiling the draws of `create` takes seconds a network."""
    net = abstract(name)
    rng = np.random.default_rng(0)

    def draw(leaf):
        if len(leaf.shape) == 1:
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        return rng.normal(0, leaf.shape[-2] ** -0.5, leaf.shape).astype(np.float32)

    return net._replace(variables=jax.tree.map(draw, net.variables))


def images(size):
    return np.random.default_rng(9).normal(size=(size, *SHAPE)).astype(np.float32)


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree)


def batch(name, size=2, dtype=None):
    return jax.ShapeDtypeStruct((size, *shape_of(name)), dtype or models.info(name).dtype)


def layers(name):
    """Layer paths of a network, as its leaves tell them."""
    flat, _ = jax.tree_util.tree_flatten_with_path(abstract(name).variables["params"])
    return sorted({"/".join(str(entry.key) for entry in path[:-1]) for path, _ in flat})


def channels_of_one(layer):
    """Outputs of a layer that one channel of its group is: of the decoder's queries two heads of 8."""
    return 16 if layer.endswith("attention/q") else 1


def pruned_layers(name):
    """(layer path, filters) of the layers that the paper prunes in a network."""
    kernels = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(abstract(name).variables["params"])[0]:
        *layer, kind = [str(entry.key) for entry in path]
        if kind == "kernel":
            kernels["/".join(layer)] = leaf.shape[-1] // channels_of_one("/".join(layer))
    return [
        (layer, n) for layer, n in kernels.items() if any(fnmatch(layer, p) for p in models.info(name).pruned)
    ]


def halved(name):
    return tuple((layer, n // 2) for layer, n in pruned_layers(name))


@EVERY
def test_both_modes_give_float32_logits_and_statistics_of_the_same_form(name):
    net = abstract(name)
    logits = jax.eval_shape(net.apply, net.variables, batch(name))
    trained, stats = jax.eval_shape(net.apply_train, net.variables, batch(name))
    assert (logits.shape, logits.dtype) == (logits_shape(name), jnp.float32)
    assert (trained.shape, trained.dtype) == (logits_shape(name), jnp.float32)
    assert shapes(stats) == shapes(net.variables["batch_stats"])
    assert net.variables.keys() == {"params", "batch_stats"}


@EVERY
def test_variables_are_plain_dicts_of_float32(name):
    def check(tree):
        assert type(tree) is dict
        for key, value in tree.items():
            assert type(key) in (str, int)
            check(value) if isinstance(value, dict) else leaves.append(value)

    leaves = []
    check(abstract(name).variables)
    assert {type(leaf) for leaf in leaves} == {jax.ShapeDtypeStruct}
    assert {str(leaf.dtype) for leaf in leaves} == {"float32"}


@EVERY
def test_pruned_patterns_name_layers_and_spare_stem_and_head(name):
    patterns = models.info(name).pruned
    hit = {pattern: [layer for layer in layers(name) if fnmatch(layer, pattern)] for pattern in patterns}
    assert all(hit.values()), hit
    whole = {"stem", "bn", "head", "convs/0"} & set(layers(name))
    assert not any(fnmatch(layer, p) for p in patterns for layer in whole)


@EVERY
def test_every_layer_with_filters_lies_in_exactly_one_stage(name):
    stages = models.info(name).stages
    for layer in layers(name):
        if layer.split("/")[0] in ("bn", "bns", "norm"):
            continue
        inside = [patterns for patterns in stages if any(fnmatch(layer, p) for p in patterns)]
        assert len(inside) == 1, (layer, inside)
    assert all(any(fnmatch(layer, p) for layer in layers(name)) for patterns in stages for p in patterns)
    assert stages[-1] == ("head",)


@EVERY
def test_halved_widths_shrink_the_filters_and_only_what_touches_them(name):
    before, after = abstract(name).variables["params"], abstract(name, halved(name)).variables["params"]
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for layer, filters in halved(name):
        small = functools.reduce(
            lambda tree, key: tree[int(key) if key.isdigit() else key], layer.split("/"), after
        )
        assert small["kernel"].shape[-1] == filters * channels_of_one(layer)
        assert "bias" not in small or small["bias"].shape == (filters,)
    assert sum(leaf.size for leaf in jax.tree.leaves(after)) < sum(
        leaf.size for leaf in jax.tree.leaves(before)
    )


@EVERY
def test_a_cut_network_runs_as_the_small_one_does(name):
    """Leaves of the small shapes in the big network's functions trace to the same program."""
    big, small = abstract(name), abstract(name, halved(name))
    for mode in ("apply", "apply_train"):
        ran = jax.make_jaxpr(getattr(big, mode))(small.variables, batch(name))
        built = jax.make_jaxpr(getattr(small, mode))(small.variables, batch(name))
        assert str(ran) == str(built)


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_inputs_are_promoted(name):
    net = abstract(name)
    assert jax.eval_shape(net.apply, net.variables, batch(name, dtype=jnp.bfloat16)).dtype == jnp.float32


@EVERY
def test_unknown_widths_are_refused_with_the_nearest_name(name):
    layer, _ = pruned_layers(name)[0]
    with pytest.raises(ValueError, match=f"unknown layer in widths: '{layer}x'; did you mean '{layer}'"):
        abstract(name, ((f"{layer}x", 3),))


@EVERY
@pytest.mark.parametrize("width", [0, -1, 1.5, True, None])
def test_widths_that_are_no_count_are_refused(name, width):
    layer, _ = pruned_layers(name)[0]
    with pytest.raises(ValueError, match=f"'{layer}' must be an integer"):
        models.abstract(name, num_classes=CLASSES, input_shape=shape_of(name), widths={layer: width})


@EVERY
def test_unknown_options_are_refused(name):
    with pytest.raises(ValueError, match=f"unknown option of {name}: 'hiden'"):
        models.abstract(name, num_classes=CLASSES, input_shape=shape_of(name), hiden=3)


@pytest.mark.parametrize("name", SMALL)
def test_an_example_does_not_see_its_neighbours_in_evaluation(name):
    net, x, apply = filled(name), images(2), jax.jit(filled(name).apply)
    logits = apply(net.variables, x)
    assert np.isfinite(logits).all()
    other = apply(net.variables, np.stack([x[0], 0 * x[1]]))
    np.testing.assert_array_equal(other[0], logits[0])
    assert not np.array_equal(other[1], logits[1])


@pytest.mark.parametrize("name", SMALL)
def test_a_training_step_reaches_every_parameter_and_statistic(name):
    net = filled(name)

    def loss(params):
        logits, stats = net.apply_train({**net.variables, "params": params}, images(2))
        return jnp.sum(logits**2), stats

    grads, stats = jax.jit(jax.grad(loss, has_aux=True))(net.variables["params"])
    assert shapes(grads) == shapes(net.variables["params"])
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(grads))
    moved = zip(jax.tree.leaves(stats), jax.tree.leaves(net.variables["batch_stats"]), strict=True)
    assert all(np.isfinite(new).all() and not np.array_equal(new, old) for new, old in moved)


@pytest.mark.parametrize(
    "name",
    ["mlp7_relu", *(pytest.param(n, marks=pytest.mark.slow) for n in models.names() if n != "mlp7_relu")],
)
def test_the_key_decides_the_weights_and_nothing_else(name):
    first, again, other = (created(name, seed).variables for seed in (0, 0, 1))
    assert shapes(first) == shapes(abstract(name, narrow(name), DRAWN.get(name)).variables)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    kernels = [leaf for leaf in jax.tree.leaves(first) if leaf.ndim > 1]
    others = [leaf for leaf in jax.tree.leaves(other) if leaf.ndim > 1]
    assert not any(np.array_equal(a, b) for a, b in zip(kernels, others, strict=True))
    assert len({float(np.asarray(kernel).flat[0]) for kernel in kernels}) == len(kernels)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(
        ValueError, match=r"unknown model 'resnet65'; did you mean 'resnet56'\? Allowed: mlp7_"
    ):
        models.info("resnet65")
    with pytest.raises(ValueError, match="unknown model"):
        models.create("vgg", num_classes=2, input_shape=SHAPE, key=jax.random.key(0))


@pytest.mark.parametrize(
    ("name", "classes", "shape", "message"),
    [
        ("resnet20", 0, SHAPE, "num_classes must be at least 1, got 0"),
        ("resnet20", 10, (32, 32), r"\(height, width, channels\), got \(32, 32\)"),
        ("resnet20", 10, (32, 0, 3), "positive sizes"),
        ("mlp7_relu", 10, (), "positive sizes"),
        ("decoder", 10, SHAPE, r"takes tokens: input_shape must be \(length,\), got \(32, 32, 3\)"),
        ("lenet5", 10, (8, 8, 1), r"at least 12x12, got \(8, 8, 1\)"),
        ("vgg19", 10, (8, 8, 3), r"at least 16x16, got \(8, 8, 3\)"),
    ],
)
def test_shapes_that_fit_no_network_are_refused(name, classes, shape, message):
    with pytest.raises(ValueError, match=message):
        models.abstract(name, num_classes=classes, input_shape=shape)
