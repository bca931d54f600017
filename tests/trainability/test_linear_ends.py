"""Linear maps at a network's ends are left out of the passes; the singular values are NumPy's of the whole Jacobian."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial

from prune_jax import models, trainability
from prune_jax.trainability import linear_ends, passes


def matrix(rows, columns, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(rows, columns)) / rows**0.5, jnp.float32)


D, F, G, K = 12, 7, 5, 9
INTO, WITHIN, OUT = matrix(D, F, 1), matrix(F, G, 2), matrix(G, K, 3)
BIAS = jnp.arange(K, dtype=jnp.float32)[None]


def plain(x):
    return jnp.tanh(jnp.tanh(x.reshape(len(x), -1) @ INTO) @ WITHIN) @ OUT + BIAS


def images(examples=3, seed=5):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(examples, 3, 4)), jnp.float32)


def exact(apply, x):
    """Singular values in NumPy's float64 of the Jacobian by forward-mode derivatives, of all examples at once."""
    whole = np.asarray(jax.jit(jax.vmap(jax.jacfwd(lambda v: apply(v[None])[0])))(x), np.float64)
    return np.linalg.svd(whole.reshape(*whole.shape[:2], -1), compute_uv=False)


def shapes(apply, x):
    """(seeds, values that gradients are pulled back to)"""
    network = passes.passes(apply)
    found = passes.abstract(network, x, passes.wanted(network, x, None), narrow=True)
    return len(found.made.seeds), int(np.prod(found.entered.shape[1:]))


def skipping(x):  # x is used again behind the first product
    flat = x.reshape(len(x), -1)
    return jnp.tanh(jnp.tanh(flat @ INTO) @ WITHIN + flat[:, :G]) @ OUT


def attending(x):  # what x is multiplied by comes from x
    flat = x.reshape(len(x), -1)
    return jnp.tanh(flat @ (INTO * jnp.tanh(flat).sum())) @ WITHIN @ OUT


def transposed(x):
    hidden = jax.lax.dot_general(x.reshape(len(x), -1), INTO.T, (((1,), (1,)), ((), ())))
    return jax.lax.dot_general(jnp.tanh(hidden) @ WITHIN, OUT.T, (((1,), (1,)), ((), ()))) + BIAS


def computing_its_weights(x):
    return jnp.tanh(x.reshape(len(x), -1) @ (INTO * 2)) @ WITHIN @ jnp.where(OUT > 0, OUT, 0.0)


def one_layer(x):
    return x.reshape(len(x), -1) @ matrix(D, K, 4)


def widening(x):
    return x.reshape(len(x), -1) @ matrix(D, 30, 4)


def linear(x):
    return x.reshape(len(x), -1) @ INTO @ WITHIN @ OUT


def squaring_at_the_end(x):
    return plain(x) ** 2


def already_flat(x):
    return jnp.tanh(x.reshape(len(x), -1))[:, :K]


NETWORKS = [
    (plain, G, F),
    (jax.jit(plain), G, F),
    (jax.jit(jax.jit(plain)), G, F),
    (transposed, G, F),
    (computing_its_weights, G, F),
    (linear, G, F),
    (skipping, G, D),
    (squaring_at_the_end, K, F),
    (one_layer, K, K),
    (already_flat, K, D),
]


@pytest.mark.parametrize(
    ("apply", "seeds", "entered"), NETWORKS, ids=lambda v: getattr(v, "__name__", str(v))
)
def test_values_are_those_of_the_whole_jacobian_from_fewer_passes(apply, seeds, entered):
    x = images()
    assert shapes(apply, x) == (seeds, entered)
    got = np.asarray(trainability.jacobian_singular_values(apply, x))
    np.testing.assert_allclose(got, exact(apply, x), rtol=1e-4, atol=2e-6)
    np.testing.assert_array_equal(got[:, seeds:], 0)


def test_more_outputs_than_inputs_behind_one_layer():
    x = images()
    assert shapes(widening, x) == (D, D)
    got = np.asarray(trainability.jacobian_singular_values(widening, x))
    assert got.shape == (3, D)
    np.testing.assert_allclose(got, exact(widening, x), rtol=1e-4, atol=1e-6)


def test_weights_that_depend_on_the_input_are_no_linear_map():
    with jax.ensure_compile_time_eval():
        ends = linear_ends.split(attending, images(1), K)
    assert ends.first is None
    assert ends.last.shape == (G, K)


def test_a_constant_network_has_no_linear_ends():
    constant = lambda x: jnp.ones((len(x), K))  # noqa: E731
    np.testing.assert_array_equal(trainability.jacobian_singular_values(constant, images()), 0)


def test_coarser_formats_keep_every_pass():
    x = images().astype(jnp.bfloat16)
    apply = lambda v: jnp.tanh(v.reshape(len(v), -1) @ INTO.astype(v.dtype)) @ matrix(F, K).astype(v.dtype)  # noqa: E731
    assert shapes(apply, x) == (K, D)


def test_a_single_example_is_not_worth_a_factor_of_the_first_map():
    two = lambda x: jnp.tanh(x.reshape(len(x), -1) @ matrix(D, 8)) @ matrix(8, 2)  # noqa: E731
    assert shapes(two, images(4)) == (2, D)
    assert shapes(two, images(5)) == (2, 8)


def test_chosen_outputs_are_rows_of_the_last_map():
    x, chosen = images(), [8, 0, 3, 1, 6, 2]
    got = trainability.jacobian_singular_values(plain, x, outputs=chosen)
    np.testing.assert_allclose(got, exact(lambda v: plain(v)[:, jnp.array(chosen)], x), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_masked_columns_of_the_first_map_and_rows_of_the_last_change_nothing():
    into, out = INTO.at[:, ::2].set(0.0), OUT.at[1].set(0.0)
    masked = lambda x: jnp.tanh(jnp.tanh(x.reshape(len(x), -1) @ into) @ WITHIN) @ out  # noqa: E731
    got = trainability.jacobian_singular_values(masked, images())
    np.testing.assert_allclose(got, exact(masked, images()), rtol=1e-4, atol=1e-6)
    assert trainability.spectrum(masked, images()).rank.tolist() == [3, 3, 3]


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    widths=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    examples=st.integers(1, 4),
    activation=st.sampled_from([jnp.tanh, jax.nn.relu, lambda v: v]),
)
def test_any_stack_of_layers(widths, examples, activation):
    layers = [matrix(a, b, seed) for seed, (a, b) in enumerate(itertools.pairwise(widths))]

    def apply(x):
        for kernel in layers[:-1]:
            x = activation(x @ kernel)
        return x @ layers[-1]

    x = jnp.asarray(np.random.default_rng(0).normal(size=(examples, widths[0])), jnp.float32)
    got = trainability.jacobian_singular_values(apply, x)
    np.testing.assert_allclose(got, exact(apply, x), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape", "outputs", "seeds", "entered"),
    [
        pytest.param("mlp7_relu", (6, 6, 1), 120, 100, 36, marks=pytest.mark.slow),
        pytest.param("resnet8", (8, 8, 3), 70, 64, 192, marks=pytest.mark.slow),
    ],
)
def test_networks_of_the_catalogue(name, shape, outputs, seeds, entered):
    made = models.create(name, num_classes=outputs, input_shape=shape, key=jax.random.key(0))
    network = models.functional(made)
    apply = Partial(network.apply, network.variables)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, *shape)), jnp.float32)
    assert shapes(apply, x) == (seeds, entered)
    got = np.asarray(trainability.jacobian_singular_values(apply, x))
    whole = np.moveaxis(np.asarray(trainability.jacobians(apply, x), np.float64), 0, 1)
    wanted = np.linalg.svd(whole, compute_uv=False)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=2e-6 * wanted.max())
