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
    return jnp.asarray(left * np.asarray(values) @ right.T, jnp.float32)


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


def test_bf16_features_are_measured_in_float32():
    features = with_values([3.0, 2.0, 1.0]).astype(jnp.bfloat16)
    got, wanted = rank(features), rank(features.astype(jnp.float32))
    assert got.stable.dtype == jnp.float32
    np.testing.assert_array_equal(got.stable, wanted.stable)


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
