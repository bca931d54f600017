import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax import trainability


def weights(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=pair) / np.sqrt(pair[0]) for pair in itertools.pairwise(sizes)]


def linear(matrices):
    def apply(x):
        x = x.reshape(x.shape[0], -1)
        for matrix in matrices:
            x = x @ jnp.asarray(matrix, x.dtype)
        return x

    return apply


@pytest.mark.parametrize("sizes", [(12, 9, 7, 5), (4, 9, 7)])
def test_deep_linear_net_has_the_svd_of_its_weight_product(sizes):
    matrices = weights(*sizes)
    wanted = np.linalg.svd(np.linalg.multi_dot(matrices), compute_uv=False)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, sizes[0])), jnp.float32)
    got = trainability.jacobian_singular_values(linear(matrices), x)
    assert got.shape == (3, min(sizes[0], sizes[-1]))
    np.testing.assert_allclose(got, np.tile(wanted, (3, 1)), rtol=2e-4)


def test_in_float64_the_linear_net_agrees_to_1e_8():
    matrices = weights(12, 9, 7, 5)
    wanted = np.linalg.svd(np.linalg.multi_dot(matrices), compute_uv=False)
    with jax.enable_x64(True):
        got = trainability.jacobian_singular_values(linear(matrices), jnp.ones((1, 12), jnp.float64))
        assert got.dtype == jnp.float64
        np.testing.assert_allclose(got[0], wanted, rtol=1e-8)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_orthogonal_weights_give_all_values_equal_to_the_scale(scale):
    q = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))[0] * scale
    got = trainability.jacobian_singular_values(linear([q]), jnp.ones((2, 8)))
    np.testing.assert_allclose(got, scale, rtol=1e-5)


def test_relu_net_equals_the_masked_matrix_product_per_example():
    first, second = weights(10, 8, 4)
    x = np.random.default_rng(3).normal(size=(5, 10))

    def apply(v):
        return jax.nn.relu(v @ jnp.asarray(first, v.dtype)) @ jnp.asarray(second, v.dtype)

    got = trainability.jacobian_singular_values(apply, jnp.asarray(x, jnp.float32))
    for i in range(5):
        open_units = np.diag((x[i] @ first > 0).astype(np.float64))
        wanted = np.linalg.svd(first @ open_units @ second, compute_uv=False)
        # a Gram matrix in float32 resolves values down to about 3e-4 of the largest one
        np.testing.assert_allclose(got[i], wanted, rtol=1e-3, atol=1e-3 * wanted[0])


def test_conv_net_agrees_with_finite_differences_in_float64():
    rng = np.random.default_rng(4)
    kernel, head = rng.normal(size=(3, 3, 2, 3)), rng.normal(size=(3, 4))
    x = rng.normal(size=(2, 5, 5, 2))
    with jax.enable_x64(True):

        def apply(v):
            y = jax.lax.conv_general_dilated(
                v, jnp.asarray(kernel), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            return jnp.tanh(y).mean((1, 2)) @ jnp.asarray(head)

        got = np.asarray(trainability.jacobians(apply, jnp.asarray(x)))
        step = 1e-6
        for d in range(x[0].size):
            shift = np.zeros(x[0].size)
            shift[d] = step
            shift = shift.reshape(1, *x[0].shape)
            slope = (apply(jnp.asarray(x + shift)) - apply(jnp.asarray(x - shift))) / (2 * step)
            np.testing.assert_allclose(got[:, :, d].T, slope, atol=1e-8)


def test_chunks_order_and_jit_change_nothing():
    matrices = weights(10, 8, 6)

    def apply(v):
        return jnp.tanh(linear(matrices)(v))

    x = jnp.asarray(np.random.default_rng(5).normal(size=(4, 10)), jnp.float32)
    whole = trainability.jacobian_singular_values(apply, x)
    for chunk in (1, 4, 6, 100):
        np.testing.assert_allclose(
            trainability.jacobian_singular_values(apply, x, chunk=chunk), whole, rtol=1e-4, atol=1e-5
        )
    turned = trainability.jacobian_singular_values(apply, x[::-1])[::-1]
    np.testing.assert_allclose(turned, whole, rtol=1e-4, atol=1e-5)
    jitted = jax.jit(lambda v: trainability.mean_jsv(apply, v))(x)
    np.testing.assert_allclose(jitted, np.mean(whole), rtol=1e-5)
    assert np.all(np.diff(np.asarray(whole), axis=1) <= 0)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (jnp.ones((0, 4)), "at least one example"),
        (jnp.ones((4,)), "at least one example"),
        (jnp.ones((2, 4), jnp.int32), "floating"),
    ],
)
def test_bad_inputs_are_named(x, message):
    with pytest.raises(ValueError, match=message):
        trainability.jacobian_singular_values(lambda v: v, x)


def test_outputs_of_another_rank_are_refused():
    with pytest.raises(ValueError, match=r"need \(batch, outputs\)"):
        trainability.jacobian_singular_values(lambda v: v[:, None], jnp.ones((2, 3)))
