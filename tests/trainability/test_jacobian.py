import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax import trainability
from prune_jax.trainability import memory, passes
from prune_jax.trainability.jacobian import jacobians
from prune_jax.trainability.singular_values import resolution, singular_values

METHODS = ("auto", "gram", "gram64", "svd")


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


def conv_net(seed=4):
    """Two convolutions with strides, batch norm in evaluation mode, ReLU, average pool and a linear head."""
    rng = np.random.default_rng(seed)
    first, second, head = (
        rng.normal(size=(3, 3, 2, 3)),
        rng.normal(size=(3, 3, 3, 4)),
        rng.normal(size=(4, 5)),
    )
    mean, variance, scale, shift = (
        rng.normal(size=3),
        rng.uniform(0.5, 2, 3),
        rng.normal(size=3),
        rng.normal(size=3),
    )

    def conv(x, kernel, stride):
        return jax.lax.conv_general_dilated(
            x,
            jnp.asarray(kernel, x.dtype),
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def apply(x):
        gain = jnp.asarray(scale / np.sqrt(variance + 1e-5), x.dtype)[None, None, None]
        offset = jnp.asarray(shift - mean * scale / np.sqrt(variance + 1e-5), x.dtype)[None, None, None]
        y = jax.nn.relu(conv(x, first, 2) * gain + offset)
        return jnp.tanh(conv(y, second, 1)).mean((1, 2)) @ jnp.asarray(head, x.dtype)

    return apply


def class_by_class(apply, x):
    """The slow reference: one float64 gradient per example and class, and NumPy's SVD."""
    with jax.enable_x64(True):
        x = jnp.asarray(np.asarray(x), jnp.float64)
        gradient = jax.jit(jax.grad(lambda v, k: apply(v[None])[0, k]))
        rows = [[gradient(v, k).ravel() for k in range(apply(x[:1]).shape[1])] for v in x]
    return np.linalg.svd(np.asarray(rows), compute_uv=False)


@pytest.mark.parametrize(
    ("sizes", "method"), [((12, 9, 7, 5), "auto"), ((4, 9, 7), "auto"), ((12, 9, 7, 5), "gram")]
)
def test_deep_linear_net_has_the_svd_of_its_weight_product(sizes, method):
    matrices = weights(*sizes)
    wanted = np.linalg.svd(np.linalg.multi_dot(matrices), compute_uv=False)
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(1).normal(size=(3, sizes[0])))
        got = trainability.jacobian_singular_values(linear(matrices), x, method=method)
        assert got.dtype == jnp.float64
    assert got.shape == (3, min(sizes[0], sizes[-1]))
    np.testing.assert_allclose(got, np.tile(wanted, (3, 1)), rtol=1e-6)


def test_relu_net_equals_the_masked_matrix_product_per_example():
    first, second = weights(10, 8, 4)
    x = np.random.default_rng(3).normal(size=(5, 10))

    def apply(v):
        return jax.nn.relu(v @ jnp.asarray(first, v.dtype)) @ jnp.asarray(second, v.dtype)

    with jax.enable_x64(True):
        got = trainability.jacobian_singular_values(apply, jnp.asarray(x))
    for i in range(5):
        open_units = np.diag((x[i] @ first > 0).astype(np.float64))
        wanted = np.linalg.svd(first @ open_units @ second, compute_uv=False)
        np.testing.assert_allclose(got[i], wanted, rtol=1e-9, atol=1e-12)


def test_conv_net_with_batch_norm_agrees_with_finite_differences_in_float64():
    x = np.random.default_rng(4).normal(size=(2, 5, 5, 2))
    with jax.enable_x64(True):
        apply = jax.jit(conv_net())
        got = np.asarray(jacobians(apply, jnp.asarray(x)))
        step = 1e-6
        for d in range(x[0].size):
            shift = np.zeros(x[0].size)
            shift[d] = step
            shift = shift.reshape(1, *x[0].shape)
            slope = (apply(jnp.asarray(x + shift)) - apply(jnp.asarray(x - shift))) / (2 * step)
            np.testing.assert_allclose(got[:, :, d].T, slope, atol=1e-8)


@pytest.mark.slow
def test_float32_agrees_with_the_loop_over_classes_in_float64():
    x = jnp.asarray(np.random.default_rng(6).normal(size=(3, 5, 5, 2)), jnp.float32)
    wanted = class_by_class(conv_net(), x)
    apply = jax.tree_util.Partial(conv_net())
    for method in METHODS:
        got = np.asarray(trainability.jacobian_singular_values(apply, x, method=method))
        share = resolution(method, np.dtype(np.float32))
        kept = wanted > share * wanted[:, :1]
        assert kept.sum() == 12  # four features bound the rank of the five outputs
        np.testing.assert_allclose(got[kept], wanted[kept], rtol=5e-4 if method == "gram" else 2e-5)
        assert np.all(got[~kept] < np.repeat(share * wanted[:, :1], 5, 1)[~kept])


def test_outputs_chosen_are_rows_of_the_whole():
    apply = jax.tree_util.Partial(conv_net())
    x = jnp.asarray(np.random.default_rng(7).normal(size=(2, 5, 5, 2)), jnp.float32)
    whole = np.asarray(jacobians(apply, x))[[3, 0]]
    np.testing.assert_allclose(jacobians(apply, x, outputs=[3, 0]), whole, rtol=1e-4, atol=1e-6)
    got = trainability.jacobian_singular_values(apply, x, outputs=[3, 0])
    np.testing.assert_allclose(got, np.linalg.svd(np.moveaxis(whole, 0, 1), compute_uv=False), rtol=1e-5)


def scaled_tanh(factor, x):
    first, second = (jnp.asarray(matrix, x.dtype) for matrix in weights(10, 8, 6))
    return factor * jnp.tanh(x @ first) @ second


def measure(factor, x, chunk=None, method="auto"):
    apply = jax.tree_util.Partial(scaled_tanh, factor)
    return trainability.jacobian_singular_values(apply, x, chunk=chunk, method=method)


def test_chunks_order_jit_and_vmap_change_nothing():
    x = jnp.asarray(np.random.default_rng(5).normal(size=(4, 10)), jnp.float32)
    whole = measure(1.0, x)
    close = {"rtol": 1e-5, "atol": 1e-6}
    for chunk in (4, 100):
        np.testing.assert_allclose(measure(1.0, x, chunk), whole, **close)
    np.testing.assert_allclose(measure(1.0, x[::-1])[::-1], whole, **close)
    np.testing.assert_allclose(jax.jit(measure, static_argnums=2)(1.0, x, 4), whole, **close)
    assert np.all(np.diff(np.asarray(whole), axis=1) <= 0)
    for method in ("auto", "gram64"):
        over = jax.jit(jax.vmap(lambda factor, m=method: measure(factor, x, method=m)))
        np.testing.assert_allclose(over(jnp.array([1.0, 3.0])), jnp.stack([whole, 3 * whole]), **close)


def test_the_mean_is_that_of_the_values():
    matrices = weights(10, 8, 6)
    x = jnp.ones((4, 10))
    wanted = np.linalg.svd(np.linalg.multi_dot(matrices), compute_uv=False).mean()
    np.testing.assert_allclose(
        jax.jit(lambda v: trainability.mean_jsv(linear(matrices), v))(x), wanted, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("shape", "method"), [((5, 90, 4), "gram"), ((3, 90, 7), "gram64"), ((5, 90, 4), "svd")]
)
def test_values_of_random_jacobians_equal_numpy_at_any_magnitude(shape, method):
    rng = np.random.default_rng(9)
    magnitude = np.repeat([1e-30, 1.0, 1e30], 30)[None, :, None]
    jacobian = (rng.normal(size=shape) * magnitude).astype(np.float32)
    wanted = np.linalg.svd(np.moveaxis(jacobian.astype(np.float64), 0, 1), compute_uv=False)
    got = np.asarray(jax.jit(singular_values, static_argnums=1)(jacobian, method), np.float64)
    share = resolution(method, np.dtype(np.float32))
    assert np.max(np.abs(got - wanted) / wanted[:, :1]) < share
    np.testing.assert_array_less(np.diff(got, axis=1), 1e-30)


def test_a_zero_jacobian_has_zeros():
    np.testing.assert_array_equal(singular_values(jnp.zeros((3, 2, 4)), "gram"), np.zeros((2, 3)))


def test_bfloat16_networks_are_accumulated_in_float32():
    matrices = weights(40, 30, 6)
    x = jnp.asarray(np.random.default_rng(8).normal(size=(3, 40)), jnp.bfloat16)
    apply = jax.tree_util.Partial(linear(matrices))
    exact = jacobians(apply, x)
    assert exact.dtype == jnp.bfloat16
    wanted = np.linalg.svd(np.moveaxis(np.asarray(exact, np.float64), 0, 1), compute_uv=False)
    for method in ("auto", "gram"):
        got = trainability.jacobian_singular_values(apply, x, method=method)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_weights_in_a_partial_are_compiled_once():
    traced, compiled = [], 0

    def network(matrix, x):
        traced.append(x.shape)
        return x @ matrix

    x = jnp.ones((2, 4))
    for factor in (1.0, 2.0, 3.0):
        apply = jax.tree_util.Partial(network, factor * jnp.eye(4))
        np.testing.assert_allclose(trainability.jacobian_singular_values(apply, x), factor, rtol=1e-6)
        compiled = compiled or len(traced)
    assert len(traced) == compiled


def test_weights_that_are_wider_than_the_batch_are_no_activations():
    kernel, head = jnp.ones((4096, 8)), jnp.ones((8, 5))
    x = jnp.ones((4, 4096))  # 4096 is a multiple of 4
    network = passes.passes(lambda v: jnp.tanh(v @ kernel) @ head)
    shapes = passes.abstract(network, x, np.eye(5, dtype=np.float32), narrow=False)
    assert shapes.need.activation == 4 * 4 * 8


def test_chunks_that_do_not_fit_are_refused_with_one_that_does():
    x, wide = jnp.ones((4, 8)), jnp.ones((8, 500))
    apply = jax.tree_util.Partial(lambda v: jnp.tanh(v @ wide)[:, :5])
    need = passes.abstract(passes.passes(apply), x, np.eye(5, dtype=np.float32), narrow=False).need
    room = need.of(3)
    with pytest.raises(ValueError, match="use chunk=3 or less"):
        jacobians(apply, x, chunk=4, available=room)
    assert jacobians(apply, x, chunk=3, available=room).shape == (5, 4, 8)
    with pytest.raises(ValueError, match=r"even with chunk=1 .* use batches of [1-3]"):
        jacobians(apply, x, available=need.of(1) * 3 // 4)
    with pytest.raises(ValueError, match=r"use fewer outputs .* or a matrix-free estimate"):
        jacobians(apply, x, available=100)


def test_the_default_chunk_divides_the_outputs_and_fits():
    cost = memory.Need(1000, 10, memory.CACHED // 7, 8)
    assert memory.fitting_chunk(None, 100, cost, 10**9) == 5  # 7 fit the cache, 5 divides 100
    assert memory.fitting_chunk(None, 100, cost, 1045) == 4  # 4 fit memory
    assert memory.fitting_chunk(None, 100, cost, 1399, cached=False) == 25  # 39 fit, 25 divides 100
