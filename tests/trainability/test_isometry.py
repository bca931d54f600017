import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.pruning.recovery import orthp
from prune_jax.trainability import isometry

gap_of = jax.jit(isometry.isometry_gap, static_argnames=("gain", "output_axis"))
error_of = jax.jit(isometry.orthogonality_error, static_argnames="gain")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(("shape", "gain"), [((4, 9), 2.0), ((3, 3, 2, 7), 1.0), ((3, 3, 8, 4), 2.0)])
def test_gap_and_error_are_what_numpy_says_of_the_flattened_kernel(shape, gain):
    kernel = normal(*shape)
    matrix = kernel.reshape(-1, shape[-1])
    values = np.linalg.svd(matrix, compute_uv=False)
    got = gap_of(jnp.asarray(kernel, jnp.float32), gain=gain)
    np.testing.assert_allclose(got, np.mean((values / gain - 1) ** 2), rtol=1e-5)
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    wanted = np.linalg.norm(tall.T @ tall / gain**2 - np.eye(tall.shape[1]))
    got = error_of(jnp.asarray(kernel, jnp.float32), gain=gain)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_closed_form_of_a_scaled_rotation_in_both_layouts():
    q = jnp.asarray(np.linalg.qr(normal(6, 6))[0] * 3.0, jnp.float32)
    np.testing.assert_allclose(gap_of(q), 4.0, rtol=1e-5)  # (3 - 1)^2
    np.testing.assert_allclose(error_of(q), 8.0 * np.sqrt(6.0), rtol=1e-5)  # (9 - 1) I
    kernel = jnp.asarray(normal(3, 2, 3), jnp.float32)  # output_axis=0: a PyTorch (out, in, width)
    swapped = jnp.moveaxis(kernel, -1, 0)
    here, there = gap_of(kernel), gap_of(swapped, output_axis=0)
    np.testing.assert_allclose(there, here, rtol=1e-6)


def test_bf16_is_measured_in_float32():
    low = jnp.asarray(normal(6, 6), jnp.bfloat16)
    got = gap_of(low)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, gap_of(low.astype(jnp.float32)), rtol=1e-6)


def test_a_masked_channel_counts_as_a_zero_and_surgery_removes_it():
    q = np.linalg.qr(normal(8, 4))[0].astype(np.float32)
    masked = q * np.array([1, 0, 1, 1], np.float32)[None]
    np.testing.assert_allclose(gap_of(jnp.asarray(masked)), 0.25, atol=1e-6)
    np.testing.assert_allclose(gap_of(jnp.asarray(q[:, [0, 2, 3]])), 0.0, atol=1e-6)


def test_orthp_closes_the_gap_of_every_kernel_and_the_table_shows_it():
    gain = float(np.sqrt(2.0))
    dense = {
        "conv": {"kernel": jnp.asarray(normal(3, 3, 2, 6), jnp.float32), "bias": jnp.ones(6)},
        "layers": [{"kernel": jnp.asarray(normal(10, 5, seed=1), jnp.float32)}],
    }
    pruned = jax.tree.map(lambda leaf: leaf[..., :3], dense)

    @jax.jit
    def table_of(params):
        return isometry.isometry_table({"pruned": params, "recovered": orthp(params, gain=gain)}, gain=gain)

    table = table_of(pruned)
    assert list(table) == ["conv/kernel", "layers/0/kernel"]
    for row in table.values():
        assert row["pruned"] > 0.1
        np.testing.assert_allclose(row["recovered"], 0.0, atol=1e-10)


def test_a_linear_network_of_isometries_has_an_isometric_jacobian_and_pruning_opens_it():
    first, second = (np.linalg.qr(normal(6, 6, seed=seed))[0].astype(np.float32) for seed in (2, 3))

    @jax.jit
    def gap(mask):
        return isometry.jacobian_isometry_gap(lambda x: (x @ (first * mask)) @ second, jnp.ones((2, 6)))

    np.testing.assert_allclose(gap(np.ones((1, 6), np.float32)), 0.0, atol=1e-6)
    # the product of an isometry cut to 4 directions with another keeps 4 values of 1 and loses 2
    np.testing.assert_allclose(gap(np.float32(np.arange(6) < 4)[None]), 2 / 6, atol=1e-5)


def test_jit_and_vmap_change_nothing():
    params = {"a": {"kernel": jnp.asarray(normal(6, 6), jnp.float32)}}
    plain = isometry.isometry_gaps(params)  # not jitted: values are looked at first
    doubled = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)
    jitted = jax.jit(jax.vmap(isometry.isometry_gaps))(doubled)
    np.testing.assert_allclose(jitted["a/kernel"][0], plain["a/kernel"], rtol=1e-5)
    assert jitted["a/kernel"][1] > jitted["a/kernel"][0]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"bias": jnp.ones(3)}, "no leaf to measure among bias"),
        ({}, "among no leaves"),
        ({"a": {"kernel": jnp.full((2, 2), jnp.nan)}}, "leaf 'a/kernel': the kernel holds NaN"),
        ({"a": jnp.ones((2, 0))}, r"leaf 'a': .* shape \(2, 0\)"),
        ({"a": jnp.ones((2, 2), jnp.int32)}, "no leaf to measure among a"),
    ],
)
def test_bad_params_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        isometry.isometry_gaps(params)


def test_bad_gains_and_tables_are_named():
    with pytest.raises(ValueError, match="gain must be positive, got 0"):
        isometry.isometry_gap(jnp.eye(2), gain=0.0)
    with pytest.raises(ValueError, match="'b' holds other kernels than 'a': y"):
        isometry.isometry_table({"a": {"x": jnp.eye(2)}, "b": {"x": jnp.eye(2), "y": jnp.eye(2)}})


def test_no_states_are_named():
    with pytest.raises(ValueError, match="states names no params"):
        isometry.isometry_table({})
