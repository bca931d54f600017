"""What every network promises, whatever its name."""

import functools
from fnmatch import fnmatch

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax import models

SHAPE = (32, 32, 3)
CLASSES = 7
EVERY = pytest.mark.parametrize("name", models.names())
# One network of each kind that compiles in a second or so; the others are followed on abstract values only.
SMALL = ("mlp7_relu", "lenet5", "resnet8")


@functools.cache
def abstract(name, widths=()):
    module = models.abstract(name, num_classes=CLASSES, input_shape=SHAPE, widths=dict(widths))
    return models.functional(module)


def concrete(name, seed=0):
    key = jax.random.key(seed)
    return models.functional(models.create(name, num_classes=CLASSES, input_shape=SHAPE, key=key))


def images(size):
    return jax.random.normal(jax.random.key(9), (size, *SHAPE))


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree)


def batch(size=2, dtype=jnp.float32):
    return jax.ShapeDtypeStruct((size, *SHAPE), dtype)


def layers(name):
    """Layer paths of a network, as its leaves tell them."""
    flat, _ = jax.tree_util.tree_flatten_with_path(abstract(name).variables["params"])
    return sorted({"/".join(str(entry.key) for entry in path[:-1]) for path, _ in flat})


def pruned_layers(name):
    """(layer path, filters) of the layers that the paper prunes in a network."""
    kernels = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(abstract(name).variables["params"])[0]:
        *layer, kind = [str(entry.key) for entry in path]
        if kind == "kernel":
            kernels["/".join(layer)] = leaf.shape[-1]
    return [
        (layer, n) for layer, n in kernels.items() if any(fnmatch(layer, p) for p in models.info(name).pruned)
    ]


def halved(name):
    return tuple((layer, n // 2) for layer, n in pruned_layers(name))


@EVERY
def test_both_modes_give_float32_logits_and_statistics_of_the_same_form(name):
    net = abstract(name)
    logits = jax.eval_shape(net.apply, net.variables, batch())
    trained, stats = jax.eval_shape(net.apply_train, net.variables, batch())
    assert (logits.shape, logits.dtype) == ((2, CLASSES), jnp.float32)
    assert (trained.shape, trained.dtype) == ((2, CLASSES), jnp.float32)
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
        if layer.split("/")[0] in ("bn", "bns"):
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
        assert small["kernel"].shape[-1] == filters
        assert "bias" not in small or small["bias"].shape == (filters,)
    assert sum(leaf.size for leaf in jax.tree.leaves(after)) < sum(
        leaf.size for leaf in jax.tree.leaves(before)
    )


@EVERY
def test_a_cut_network_runs_as_the_small_one_does(name):
    """Leaves of the small shapes in the big network's functions trace to the same program."""
    big, small = abstract(name), abstract(name, halved(name))
    for mode in ("apply", "apply_train"):
        ran = jax.make_jaxpr(getattr(big, mode))(small.variables, batch())
        built = jax.make_jaxpr(getattr(small, mode))(small.variables, batch())
        assert str(ran) == str(built)


@EVERY
def test_bfloat16_inputs_are_promoted(name):
    net = abstract(name)
    assert jax.eval_shape(net.apply, net.variables, batch(dtype=jnp.bfloat16)).dtype == jnp.float32


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
        models.abstract(name, num_classes=CLASSES, input_shape=SHAPE, widths={layer: width})


@EVERY
def test_unknown_options_are_refused(name):
    with pytest.raises(ValueError, match=f"unknown option of {name}: 'hiden'"):
        models.abstract(name, num_classes=CLASSES, input_shape=SHAPE, hiden=3)


@pytest.mark.parametrize("name", SMALL)
def test_arrays_have_the_abstract_shapes_and_give_finite_logits(name):
    net = concrete(name)
    assert shapes(net.variables) == shapes(abstract(name).variables)
    x = images(2)
    logits = jax.jit(net.apply)(net.variables, x)
    trained, stats = jax.jit(net.apply_train)(net.variables, x)
    assert np.isfinite(logits).all()
    assert np.isfinite(trained).all()
    assert np.ptp(logits) > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(stats))
    # In evaluation an example doesn't see its neighbours; the first one stays what it was.
    other = jax.jit(net.apply)(net.variables, x.at[1].set(0))
    np.testing.assert_array_equal(other[0], logits[0])
    assert not np.array_equal(other[1], logits[1])


@pytest.mark.parametrize("name", SMALL)
def test_the_key_decides_the_weights(name):
    first, again, other = (jax.tree.leaves(concrete(name, seed).variables["params"]) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    drawn = [i for i, leaf in enumerate(first) if leaf.ndim > 1]
    assert not any(np.array_equal(first[i], other[i]) for i in drawn)
    assert len({float(np.asarray(first[i]).flat[0]) for i in drawn}) == len(drawn)


@pytest.mark.slow
@EVERY
def test_arrays_of_every_network_have_the_abstract_shapes(name):
    net = concrete(name)
    assert shapes(net.variables) == shapes(abstract(name).variables)


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
        ("lenet5", 10, (8, 8, 1), r"at least 12x12, got \(8, 8, 1\)"),
        ("vgg19", 10, (8, 8, 3), r"at least 16x16, got \(8, 8, 3\)"),
    ],
)
def test_shapes_that_fit_no_network_are_refused(name, classes, shape, message):
    with pytest.raises(ValueError, match=message):
        models.abstract(name, num_classes=classes, input_shape=shape)
