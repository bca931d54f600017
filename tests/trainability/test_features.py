import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.trainability.features import feature_rank

rank = jax.jit(feature_rank, static_argnames=("rtol", "delta", "centre"))


def with_values(values, rows=12, width=7, seed=0):
    rng = np.random.default_rng(seed)
    left, _ = np.linalg.qr(rng.normal(size=(rows, len(values))))
    right, _ = np.linalg.qr(rng.normal(size=(width, len(values))))
    return jax.device_put((left * np.asarray(values) @ right.T).astype(np.float32))


def test_definitions_on_known_singular_values():
    values = np.array([8.0, 4.0, 2.0, 1.0, 0.5])
    got = rank(with_values(values), delta=0.1)
    p = values / values.sum()
    assert got.numerical == 5
    np.testing.assert_allclose(got.stable, (values**2).sum() / 64.0, rtol=1e-5)
    np.testing.assert_allclose(got.effective, np.exp(-(p * np.log(p)).sum()), rtol=1e-5)
    assert got.srank == 3  # 14 / 15.5 = 0.903 reaches 1 - 0.1, 12 / 15.5 = 0.77 doesn't


@pytest.mark.parametrize("k", [1, 3, 7])
def test_k_equal_directions_have_every_rank_k(k):
    got = rank(with_values(np.full(k, 2.5)))
    assert (int(got.numerical), int(got.srank)) == (k, k)
    np.testing.assert_allclose([got.stable, got.effective], k, rtol=1e-5)


def test_the_default_tolerance_is_numpys():
    for tiny in (1e-5, 1e-7):
        features = with_values([1.0, 1.0, tiny])
        assert rank(features).numerical == np.linalg.matrix_rank(np.asarray(features))
    assert rank(with_values([1.0, 0.1, 0.01]), rtol=0.05).numerical == 2


def test_centring_takes_a_common_offset_off():
    features = with_values([1.0, 1.0]) + 100.0
    assert rank(features, rtol=1e-4).numerical == 3
    assert rank(features, rtol=1e-4, centre=True).numerical == 2
    assert rank(features).stable < 1.01


def test_dead_features_have_rank_zero_and_jit_and_vmap_agree():
    zero = rank(jnp.zeros((12, 7)))
    assert [float(value) for value in zero] == [0.0] * 4
    stack = jnp.stack([with_values([3.0, 2.0]), with_values([1.0], seed=1), jnp.zeros((12, 7))])
    got = jax.jit(jax.vmap(feature_rank))(stack)
    alone = rank(stack[0])
    np.testing.assert_allclose([v[0] for v in got], list(alone), rtol=1e-5)
    assert [int(v) for v in got.numerical] == [2, 1, 0]


@pytest.mark.parametrize(
    ("rows", "width", "k"),
    [
        (64, 16, 3),
        (16, 64, 3),
        pytest.param(512, 64, 5, marks=pytest.mark.slow),
        pytest.param(40, 256, 1, marks=pytest.mark.slow),
    ],
)
def test_bf16_features_have_the_rank_they_had_before_they_were_rounded(rows, width, k):
    features = with_values(np.linspace(1.0, 0.3, k), rows, width)
    rounded = features.astype(jnp.bfloat16)
    exact = np.asarray(rounded, np.float64)
    assert np.linalg.matrix_rank(exact) == min(rows, width)  # rounding fills the rank up
    got, wanted = rank(rounded), rank(features)
    assert (got.numerical, wanted.numerical) == (k, k)
    assert got.stable.dtype == jnp.float32
    values = np.linalg.svd(exact, compute_uv=False)
    np.testing.assert_allclose(got.stable, (values**2).sum() / values[0] ** 2, rtol=1e-4)


def test_a_bf16_offset_that_centring_takes_off_leaves_its_rounding_behind_and_no_rank():
    offset = jnp.full((32, 8), 100.0) + 0.1 * jax.random.normal(jax.random.key(0), (32, 8))
    rounded = offset.astype(jnp.bfloat16)  # steps of 0.5: what is left of the noise is rounding
    assert np.linalg.matrix_rank(np.asarray(rounded - rounded.mean(0, keepdims=True), np.float64)) > 0
    assert rank(rounded, centre=True).numerical == 0
    assert rank(offset, centre=True).numerical == 8


def test_ranks_do_not_depend_on_the_scale_of_the_features():
    features = with_values([3.0, 2.0, 1e-3])
    for scale in (1e-30, 1e30):
        for got, wanted in zip(rank(features * scale), rank(features), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_diverged_features_are_refused_and_flow_through_a_jit():
    features = with_values([1.0, 1.0]).at[3, 2].set(jnp.nan)
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 84 values: the network has diverged"):
        feature_rank(features)
    for broken in (features, features.at[0, 0].set(jnp.inf)):
        got = rank(broken)
        assert (int(got.numerical), int(got.srank)) == (-1, -1)
        assert np.isnan([got.stable, got.effective]).all()


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (jnp.ones((2, 3, 4)), {}, r"shape \(2, 3, 4\).*pool or flatten"),
        (jnp.ones((0, 4)), {}, r"shape \(0, 4\)"),
        (jnp.ones((2, 4), jnp.int32), {}, "dtype int32"),
        (jnp.ones((2, 4)), {"rtol": 1.0}, "rtol is a share"),
        (jnp.ones((2, 4)), {"delta": 0.0}, "delta is a share"),
    ],
)
def test_bad_input_is_named(features, options, message):
    with pytest.raises(ValueError, match=message):
        feature_rank(features, **options)
