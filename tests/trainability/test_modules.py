import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn
from flax import nnx

from prune_jax import models
from prune_jax.models.norm import BatchNorm
from prune_jax.trainability import jacobian_singular_values, jacobians
from prune_jax.trainability.parts import bypassed, measure_modules, module_input, module_part

LAYERS = [*(f"layers/{i}" for i in range(6)), "head"]


def create(name, **options):
    return models.create(name, num_classes=3, key=jax.random.key(0), **options)


def create_compiled(name, **options):
    """The same in one compilation, which costs less than an initialiser's many."""
    graphdef = nnx.graphdef(models.abstract(name, num_classes=3, **options))
    return nnx.merge(graphdef, jax.jit(lambda: nnx.to_pure_dict(nnx.state(create(name, **options))))())


def images(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def brute(function, x):
    """(K, batch, D) of each example alone by jax.jacobian."""

    @jax.jit
    def all_of(v):
        return jax.vmap(jax.jacobian(lambda one: function(one[None])[0].reshape(-1)))(v)

    return np.moveaxis(np.asarray(all_of(x)).reshape(*x.shape[:1], -1, x[0].size), 0, 1)


def test_each_stage_of_the_linear_mlp_has_the_svd_of_its_kernel_and_pruning_shows_where_it_was():
    net = create_compiled("mlp7_linear", input_shape=(4, 4, 1), hidden=8)
    net.layers[3].kernel[...] = net.layers[3].kernel[...] * (jnp.arange(8) < 2)[None]
    x = images(2, 4, 4, 1)

    @jax.jit
    def stages(v):
        cuts = itertools.pairwise([None, *LAYERS])
        return {b: jacobians(*module_part(net, v, a, b)) for a, b in cuts}

    got = {path: np.moveaxis(np.asarray(j, np.float64), 0, 1) for path, j in stages(x).items()}
    values = {path: np.linalg.svd(j, compute_uv=False) for path, j in got.items()}
    for path, layer in zip(LAYERS, [*net.layers, net.head], strict=True):
        wanted = np.linalg.svd(np.asarray(layer.kernel[...], np.float64), compute_uv=False)
        np.testing.assert_allclose(values[path], np.tile(wanted, (2, 1)), atol=2e-6, err_msg=path)
    smallest = {path: value.min() for path, value in values.items()}
    assert smallest.pop("layers/3") < 1e-6
    assert min(smallest.values()) > 0.99  # orthogonal initialisation


class Block(nnx.Module):
    def __init__(self, seed):
        self.dense, self.norm = nnx.Linear(5, 5, rngs=nnx.Rngs(seed)), BatchNorm(5)

    def __call__(self, x, *, train):
        return x + nnx.tanh(self.norm(self.dense(x), train=train))


class Residual(nnx.Module):
    def __init__(self):
        self.blocks = nnx.List([Block(0), Block(1)])
        self.head = nnx.Linear(5, 3, rngs=nnx.Rngs(2))

    def __call__(self, x, *, train):
        for block in self.blocks:
            x = block(x, train=train)
        return self.head(x)


def test_blocks_with_shortcuts_multiply_to_the_whole_and_their_insides_are_bypassed():
    net, x = drawn(lambda _: Residual()), images(2, 5)
    net.blocks[1].norm.mean[...], net.blocks[1].norm.var[...] = jnp.full(5, 0.1), jnp.full(5, 1.7)
    paths = ["blocks/0", "blocks/1", "head"]

    @jax.jit
    def all_of(v):
        measured = measure_modules(net, v, paths, measure=jacobians)
        return measured, jacobians(*module_part(net, v, "blocks/1/norm", "blocks/1"))

    got, branch = all_of(x)
    assert list(got) == paths  # in their order, through jit as well
    product = np.eye(5)[:, None].repeat(2, 1)
    for measured in got.values():
        product = np.einsum("kbl,lbd->kbd", np.asarray(measured.stage, np.float64), product)
    wanted = brute(lambda v: net(v, train=False), x)
    np.testing.assert_allclose(product, wanted, atol=1e-5)
    np.testing.assert_allclose(got["head"].cumulative, wanted, atol=1e-5)
    assert [bypassed(net, x, path) for path in ("blocks/0", "blocks/1/norm")] == [False, True]
    assert not bypassed(net, x, "blocks/1/dense", "blocks/1/norm")
    # through the branch alone the shortcut stands still
    assert np.abs(np.asarray(branch) - np.asarray(got["blocks/1"].stage)).max() > 0.1


@pytest.mark.slow
def test_residual_blocks_multiply_to_the_whole_in_evaluation_mode():
    net = create_compiled("resnet8", input_shape=(4, 4, 1), widths={"stem": 2})
    for block in net.blocks:  # statistics that training mode would not use
        block.bn1.mean[...], block.bn2.var[...] = block.bn1.mean[...] + 0.1, block.bn2.var[...] * 1.7
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(net)))
    x = images(2, 4, 4, 1)
    cuts = [None, "bn", "blocks/0", "blocks/1", "blocks/2", None]

    @jax.jit
    def stages(v):
        return [jacobians(*module_part(net, v, a, b)) for a, b in itertools.pairwise(cuts)]

    product = np.eye(16)[:, None].repeat(2, 1)
    for stage in stages(x):
        product = np.einsum("klb,lbd->kbd", np.asarray(stage, np.float64).swapaxes(1, 2), product)
    network = models.functional(net)
    np.testing.assert_allclose(
        product, brute(lambda v: network.apply(network.variables, v), x), rtol=1e-4, atol=1e-5
    )
    jax.tree.map(np.testing.assert_array_equal, before, nnx.to_pure_dict(nnx.state(net)))
    assert [bypassed(net, x, path) for path in ("bn", "blocks/1", "blocks/1/conv1")] == [False, False, True]
    assert not bypassed(net, x, "blocks/1/conv1", "blocks/1/conv2")


class Custom(nnx.Module):
    """What our models don't have: dropout, nnx.BatchNorm, a module that runs twice, one that never runs."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first, self.twice = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)
        self.drop, self.norm = nnx.Dropout(0.5, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.never, self.inner = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)
        self.pair, self.head = Pair(), nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        y = self.drop(self.norm(self.first(x)))
        y = self.twice(nnx.relu(self.twice(y)))
        y = nnx.jit(lambda inner, v: inner(v))(self.inner, y)
        return self.head(jnp.concatenate(self.pair(y), -1))


@functools.cache
def custom():
    return Custom()


class Pair(nnx.Module):
    def __call__(self, y):
        return y, -y


def test_any_module_and_the_way_into_it():
    net, x = custom(), images(3, 4)
    apply, entering = module_part(net, x, "norm", "drop")
    np.testing.assert_allclose(apply(entering), entering)  # evaluation mode: nothing is dropped
    assert not net.norm.use_running_average  # but only on the copy that ran
    assert type(net.first) is nnx.Linear
    # from the batch norm's input, as jax.jacobian has it: running mean 0, variance 1
    apply, entering = module_part(net, x, "first", "norm")
    values = jax.jit(lambda v: jacobian_singular_values(apply, v))(entering)
    np.testing.assert_allclose(values, np.full((3, 4), (1 + 1e-5) ** -0.5), rtol=1e-6)
    features = module_input(net, x, "head")
    assert features.shape == (3, 8)
    np.testing.assert_array_equal(features[:, :4], -features[:, 4:])
    told = module_part(net, x, None, "first", call=lambda module, v: module(2 * v))
    np.testing.assert_allclose(told.apply(x), module_part(net, 2 * x, None, "first").apply(2 * x))


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (None, "norn", "unknown module of Custom 'norn'; did you mean 'norm'"),
        ("layers/0", None, "unknown module of Custom 'layers/0'.* Allowed: drop, first"),
        ("first/kernel", None, "unknown module"),
        ("norm", "norm", "source and target are both 'norm'"),
        ("norm", "first", "'first' runs before the source"),
        (None, "twice", "'twice' runs 2 times"),
        ("never", None, "'never' runs 0 times"),
        (None, "inner", "'inner' runs inside a transform"),
        (None, "pair", "'pair' gives a tuple of 2 arrays"),
        ("pair", None, "'pair' gives a tuple of 2 arrays"),
    ],
)
def test_what_no_part_can_be_made_of_is_named(source, target, message):
    net, x = custom(), images(3, 4)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda v: module_part(net, v, source, target).apply(v), x)


def test_weights_that_are_not_finite_are_named():
    net = drawn(lambda _: Residual())
    net.blocks[1].dense.kernel[...] = net.blocks[1].dense.kernel[...].at[0, 0].set(jnp.nan)
    with pytest.raises(ValueError, match="leaf 'blocks/1/dense/kernel' holds NaN"):
        measure_modules(net, images(2, 5), ["blocks/0"])


def test_a_sequential_is_cut_at_its_layers():
    net = drawn(
        lambda rngs: nnx.Sequential(nnx.Linear(4, 5, rngs=rngs), nnx.tanh, nnx.Linear(5, 2, rngs=rngs))
    )
    x = images(3, 4)
    values = jax.jit(lambda v: jacobians(*module_part(net, v, "layers/0", "layers/2")))(x)
    first = net.layers[0]
    slope = 1 - np.tanh(np.asarray(x) @ np.asarray(first.kernel[...]) + np.asarray(first.bias[...])) ** 2
    wanted = slope[None] * np.asarray(net.layers[2].kernel[...]).T[:, None]
    np.testing.assert_allclose(values, wanted, atol=1e-6)


def test_no_paths_are_refused():
    with pytest.raises(ValueError, match="no paths"):
        measure_modules(custom(), images(3, 4), [])


@pytest.mark.slow
def test_convolutional_parts_multiply_to_the_whole():
    net, x = create_compiled("lenet5", input_shape=(12, 12, 1)), images(1, 12, 12, 1)

    @jax.jit
    def three(v):
        cuts = ((None, "dense1"), ("dense1", "dense2"), (None, "dense2"))
        return [jacobians(*module_part(net, v, a, b)) for a, b in cuts]

    into, part, whole = (np.asarray(j, np.float64) for j in three(x))
    np.testing.assert_allclose(np.einsum("kbl,lbd->kbd", part, into), whole, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "source", "target", "entering", "outputs"),
    [
        ("vgg19", "bns/3", "convs/4", (2, 8, 8, 128), 4 * 4 * 256),
        ("lenet5", "conv2", None, (2, 4, 4, 16), 3),
        ("resnet8", None, "blocks/1", (2, 16, 16, 1), 8 * 8 * 32),
    ],
)
def test_parts_of_convolutional_networks_have_the_shapes_in_between(name, source, target, entering, outputs):
    def part(x):
        net = create(name, input_shape=(16, 16, 1))  # built in the trace: nothing is computed
        apply, x = module_part(net, x, source, target)
        return x, apply(x)

    given, out = jax.eval_shape(part, images(2, 16, 16, 1))
    assert (given.shape, out.shape) == (entering, (2, outputs))
