import itertools
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_jax import trainability
from prune_jax.trainability.singular_values import resolution


def mlp(weights, x):
    """tanh network on plain weights."""
    for matrix in weights[:-1]:
        x = jnp.tanh(x @ matrix)
    return x @ weights[-1]


def linear(weights, x):
    for matrix in weights:
        x = x @ matrix
    return x


def gaussian(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    pairs = itertools.pairwise(sizes)
    return [jnp.asarray(rng.normal(size=p) / math.sqrt(p[0]), jnp.float32) for p in pairs]


def images(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_statistics_of_values_written_by_hand():
    got = trainability.summarize(
        np.array([[3.0, 1.0, 1e-9], [2.0, 2.0, 1.0]]), resolution=1e-6, quantiles=(0.0, 0.5, 1.0)
    )
    np.testing.assert_array_equal(got.rank, [2, 3])
    np.testing.assert_array_equal(got.unresolved, [1, 0])
    np.testing.assert_array_equal(got.values, [[3.0, 1.0, np.nan], [2.0, 2.0, 1.0]])
    each = got.per_example
    np.testing.assert_allclose(each.mean, [4 / 3, 5 / 3])
    np.testing.assert_allclose(each.std, [math.sqrt(14) / 3, math.sqrt(2) / 3])
    np.testing.assert_allclose(each.max, [3, 2])
    np.testing.assert_allclose(each.min, [1, 1])
    np.testing.assert_allclose(each.condition, [3, 2])
    np.testing.assert_allclose(each.quantiles, [[np.nan, 1, 3], [1, 2, 2]])
    np.testing.assert_allclose(each.isometry_gap, [5 / 3, 2 / 3])
    np.testing.assert_allclose(each.log_determinant, [math.log(9), math.log(16)])
    pooled = got.pooled
    np.testing.assert_allclose(pooled.mean, 1.5)
    np.testing.assert_allclose(pooled.std, math.sqrt(19 / 6 - 2.25))
    assert (pooled.max, pooled.min, pooled.condition) == (3, 1, 3)
    np.testing.assert_allclose(pooled.quantiles, [np.nan, 1.5, 3])
    np.testing.assert_allclose(pooled.isometry_gap, 7 / 6)
    np.testing.assert_allclose(pooled.log_determinant, math.log(144) / 2)
    np.testing.assert_allclose(got.errors.mean, 1 / 6)  # |a - b| / 2 for two examples
    np.testing.assert_allclose(got.errors.condition, 1 / 2)
    np.testing.assert_allclose(got.errors.quantiles, [np.nan, 0.5, 0.5])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(n=st.integers(2, 5), r=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_statistics_agree_with_loops_over_the_resolved_values(n, r, seed):
    rng = np.random.default_rng(seed)
    values = -np.sort(-np.exp(rng.normal(size=(n, r)) * 8), axis=1)
    got = trainability.summarize(values, resolution=1e-3)
    for i, row in enumerate(values):
        kept = [v for v in row if v > 1e-3 * row[0]]
        full = np.array(kept + [0.0] * (r - len(kept)))
        assert got.rank[i] == len(kept)
        assert got.unresolved[i] == r - len(kept)
        np.testing.assert_allclose(got.per_example.mean[i], sum(kept) / r)
        np.testing.assert_allclose(got.per_example.condition[i], max(kept) / min(kept))
        np.testing.assert_allclose(got.per_example.isometry_gap[i], sum((full - 1) ** 2) / r)
        np.testing.assert_allclose(
            got.per_example.log_determinant[i], sum(2 * math.log(v) for v in kept), atol=1e-9
        )
    spread = got.per_example.mean.std(ddof=1) / math.sqrt(n)
    np.testing.assert_allclose(got.errors.mean, spread)
    np.testing.assert_allclose(got.pooled.mean, got.per_example.mean.mean())


def test_an_example_without_any_resolved_value_says_so():
    got = trainability.spectrum(lambda x: 0.0 * x, images(2, 3))
    np.testing.assert_array_equal(got.rank, [0, 0])
    assert np.isnan(got.values).all()
    assert np.isnan([got.pooled.min, got.pooled.condition, got.pooled.log_determinant]).all()
    assert got.pooled.max == 0
    assert got.pooled.isometry_gap == 1


def test_isometry_is_recognised():
    q = np.linalg.qr(np.random.default_rng(2).normal(size=(16, 16)))[0]
    with jax.enable_x64(True):
        got = trainability.spectrum(lambda x: x @ jnp.asarray(q), np.ones((3, 16)))
        twice = trainability.spectrum(lambda x: x @ jnp.asarray(2 * q), np.ones((3, 16)))
    np.testing.assert_allclose(got.values, 1, atol=1e-12)
    assert got.pooled.isometry_gap < 1e-24
    assert got.pooled.condition == pytest.approx(1, abs=1e-12)
    assert got.pooled.log_determinant == pytest.approx(0, abs=1e-11)
    np.testing.assert_allclose(twice.values, 2, atol=1e-12)
    assert twice.pooled.isometry_gap == pytest.approx(1)
    assert twice.pooled.log_determinant == pytest.approx(16 * math.log(4))


@pytest.mark.slow
def test_gaussian_products_have_fuss_catalan_moments():
    """Mean of s^(2k) of L wide square factors of variance 1/N tends to C((L + 1)k, k) / (Lk + 1)."""
    layers, width, draws = 2, 200, 8
    found = []
    for seed in range(draws):
        deep = jax.tree_util.Partial(linear, gaussian(*[width] * (layers + 1), seed=seed))
        values = np.nan_to_num(trainability.spectrum(deep, images(1, width)).values)
        found.append([np.mean(values ** (2 * k)) for k in (1, 2, 3)])
    wanted = [math.comb((layers + 1) * k, k) / (layers * k + 1) for k in (1, 2, 3)]
    # moments scatter by O(1/N); 5 % is about three standard errors of the third one over the draws
    np.testing.assert_allclose(np.mean(found, 0), wanted, rtol=0.05)


def bottleneck(seed=3):
    """12 outputs of rank 5 whose resolved values spread over almost five decades, and those values."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(30, 5)))[0]
    right = np.linalg.qr(rng.normal(size=(12, 5)))[0]
    wanted = np.array([1.0, 0.3, 1e-2, 3e-4, 3e-5])
    return (left * wanted) @ right.T, wanted


@pytest.mark.parametrize("method", ["auto", "gram64"])
def test_small_values_of_a_bottleneck_are_resolved_and_the_rest_is_counted(method):
    product, wanted = bottleneck()
    got = trainability.spectrum(lambda x: x @ jnp.asarray(product, x.dtype), images(4, 30), method=method)
    np.testing.assert_array_equal(got.rank, 5)
    np.testing.assert_array_equal(got.unresolved, 7)
    assert np.isnan(got.values[:, 5:]).all()
    # the product itself, rounded to float32, carries 1e-7: 0.3 % of the smallest value at the very worst
    np.testing.assert_allclose(got.values[:, :5], np.tile(wanted, (4, 1)), rtol=3e-3)
    assert got.pooled.condition == pytest.approx(1 / 3e-5, rel=3e-3)
    np.testing.assert_allclose(got.per_example.log_determinant, 2 * np.log(wanted).sum(), atol=6e-3)


def test_a_float32_gram_matrix_states_what_it_does_not_resolve():
    product, wanted = bottleneck()
    got = trainability.spectrum(lambda x: x @ jnp.asarray(product, x.dtype), images(2, 30), method="gram")
    np.testing.assert_array_equal(got.rank, 3)
    np.testing.assert_allclose(got.values[:, :3], np.tile(wanted[:3], (2, 1)), rtol=3e-3)
    assert got.pooled.condition == pytest.approx(100, rel=3e-3)


def test_streams_equal_one_array_in_any_order_and_count_examples():
    apply, x = jax.tree_util.Partial(mlp, gaussian(20, 15, 6)), images(8, 20)
    whole = trainability.spectrum(apply, x)
    stream = trainability.spectrum(apply, (x[i : i + 4] for i in range(0, 8, 4)), chunk=4)
    np.testing.assert_allclose(stream.values, whole.values, rtol=1e-4)
    order = np.array([3, 1, 6, 0, 2, 7, 5, 4])
    np.testing.assert_allclose(trainability.spectrum(apply, x[order]).values, whole.values[order], rtol=1e-4)
    for got, wanted in zip(jax.tree.leaves(stream), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-6)
    assert whole.values.dtype == np.float64
    assert whole.values.shape == (8, 6)
    assert whole.per_example.quantiles.shape == (8, 5)
    chosen = trainability.spectrum(apply, x, outputs=[0, 5], quantiles=(0.5,))
    assert chosen.values.shape == (8, 2)
    assert chosen.pooled.quantiles.shape == (1,)


def test_one_example_has_no_standard_error():
    got = trainability.spectrum(lambda x: 2 * x, images(1, 3))
    assert got.pooled.mean == 2
    assert all(np.isnan(field).all() for field in got.errors)
    assert got.errors.quantiles.shape == (5,)


def test_a_bfloat16_network_resolves_what_bfloat16_holds():
    weights = [matrix.astype(jnp.bfloat16) for matrix in gaussian(20, 15, 6)]

    def apply(x):
        return mlp(weights, x.astype(jnp.bfloat16)).astype(jnp.float32)

    got = trainability.spectrum(apply, images(3, 20))
    assert got.resolution == resolution("auto", jnp.dtype(jnp.bfloat16))
    wanted = trainability.spectrum(lambda x: mlp([w.astype(jnp.float32) for w in weights], x), images(3, 20))
    assert wanted.resolution < 1e-3 * got.resolution
    # eight bits of mantissa, through two layers
    np.testing.assert_allclose(got.pooled.mean, wanted.pooled.mean, rtol=0.02)


def test_weights_of_a_partial_that_are_not_finite_are_named_before_any_work():
    weights = {"first": gaussian(20, 15)[0], "second": jnp.full((15, 6), jnp.nan)}
    apply = jax.tree_util.Partial(lambda w, x: mlp([w["first"], w["second"]], x), weights)
    with pytest.raises(ValueError, match="second' holds NaN or infinity in 90 of 90 values"):
        trainability.spectrum(apply, images(2, 20))


def test_a_dead_example_has_no_condition_and_takes_no_error_bar_of_the_others():
    values = np.array([[1.0, 0.5], [2.0, 1.0], [4.0, 1.0], [0.0, 0.0]])
    got = trainability.summarize(values, resolution=1e-6)
    np.testing.assert_allclose(got.means.condition, (2 + 2 + 4) / 3)
    np.testing.assert_allclose(got.errors.condition, np.std([2, 2, 4], ddof=1) / 3**0.5)
    np.testing.assert_allclose(got.means.min, 2.5 / 3)
    np.testing.assert_allclose(got.means.mean, values.mean())
    np.testing.assert_allclose(got.errors.mean, np.std(values.mean(1), ddof=1) / 2)
    logs = 2 * np.log([0.5, 2.0, 4.0])
    np.testing.assert_allclose(got.pooled.log_determinant, logs.mean())
    np.testing.assert_allclose(got.errors.log_determinant, logs.std(ddof=1) / 3**0.5)
    assert np.isfinite(got.errors.quantiles).all()
    lonely = trainability.summarize(values[2:], resolution=1e-6)
    assert lonely.means.condition == 4
    assert np.isnan(lonely.errors.condition)


SHARDED = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"
import jax, numpy as np
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from prune_jax import trainability
rng = np.random.default_rng(0)
kernel = jnp.asarray(rng.normal(size=(3, 3, 2, 4)), jnp.float32)
head = jnp.asarray(rng.normal(size=(4, 6)), jnp.float32)

def apply(x):
    y = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.tanh(y).mean((1, 2)) @ head

x = jnp.asarray(rng.normal(size=(16, 6, 6, 2)), jnp.float32)
mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
assert len(spread.devices()) == 8
# Seen: no bit of difference. Another partition may round otherwise, to eps, which the largest value over the
# smallest, 24 here, multiplies in an SVD, and its square in a Gram matrix.
for method, rtol in (("auto", 1e-5), ("gram", 2e-4), ("svd", 1e-5)):
    wanted = trainability.jacobian_singular_values(apply, x, method=method)
    for function in (apply, jax.jit(apply)):
        got = trainability.jacobian_singular_values(function, spread, method=method)
        np.testing.assert_allclose(got, wanted, rtol=rtol)
    got = jax.jit(lambda v: trainability.jacobian_singular_values(apply, v, method=method))(spread)
    np.testing.assert_allclose(got, wanted, rtol=rtol)
np.testing.assert_allclose(
    trainability.spectrum(apply, spread).pooled.mean, trainability.spectrum(apply, x).pooled.mean, rtol=1e-5
)
"""


@pytest.mark.slow
def test_a_batch_spread_over_eight_devices_has_the_same_values():
    done = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_resnet_with_a_hundred_classes_has_the_rank_of_its_features():
    """64 features bound the rank of 100 outputs; float32 resolves what float64 does, and agrees."""
    from prune_jax import models

    made = models.create("resnet8", num_classes=100, input_shape=(12, 12, 3), key=jax.random.key(0))
    network = models.functional(made)
    x = images(3, 12, 12, 3)
    got = trainability.spectrum(jax.tree_util.Partial(network.apply, network.variables), x)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), network.variables)
        wanted = trainability.jacobian_singular_values(
            jax.tree_util.Partial(network.apply, wide), jnp.asarray(x, jnp.float64), method="svd"
        )
    wanted = np.asarray(wanted)
    np.testing.assert_array_equal(got.rank, (wanted > 1e-10 * wanted[:, :1]).sum(1))
    assert got.rank.max() == 64
    np.testing.assert_array_equal(got.unresolved, 100 - got.rank)
    resolved = np.isfinite(got.values)
    # seen: 1e-6; the smallest of the resolved are 1/46 of the largest, in units of whose eps values are rounded
    np.testing.assert_allclose(got.values[resolved], wanted[resolved], rtol=2e-5)
    alone = trainability.spectrum(jax.tree_util.Partial(network.apply, network.variables), x[:1])
    np.testing.assert_allclose(alone.values[0], got.values[0], rtol=2e-5)
