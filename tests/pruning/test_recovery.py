import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.pruning import recovery


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (5, 5), (3, 3, 2, 7), (3, 3, 8, 4), (2, 2, 1, 9)])
@pytest.mark.parametrize("gain", [1.0, np.sqrt(2)])
def test_kernel_becomes_an_isometry_times_the_gain(shape, gain):
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    matrix = np.asarray(recovery.orthogonalize(kernel, gain=gain)).reshape(-1, shape[-1])
    np.testing.assert_allclose(np.linalg.svd(matrix, compute_uv=False), gain, rtol=1e-5)


@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_equals_gram_schmidt_in_float64(shape):
    kernel = np.random.default_rng(1).normal(size=shape)
    rows = kernel if shape[0] >= shape[1] else kernel.T
    basis = np.zeros_like(rows)
    for j in range(
        rows.shape[1]
    ):  # classical Gram-Schmidt keeps the direction of the first vector: R's diagonal > 0
        rest = rows[:, j] - basis[:, :j] @ (basis[:, :j].T @ rows[:, j])
        basis[:, j] = rest / np.linalg.norm(rest)
    wanted = basis if shape[0] >= shape[1] else basis.T
    got = recovery.orthogonalize(jnp.asarray(kernel, jnp.float32), gain=1.0)
    np.testing.assert_allclose(got, wanted, atol=2e-6)


def test_an_orthogonal_kernel_stays():
    q = np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))[0].astype(np.float32)
    np.testing.assert_allclose(recovery.orthogonalize(jnp.asarray(q), gain=1.0), q, atol=1e-6)


def test_any_pytree_biases_untouched_and_the_choice_is_the_callers():
    tree = ({"w": jnp.arange(6.0).reshape(3, 2), "b": jnp.ones(2)}, [jnp.eye(2) * 3])
    out = recovery.orthp(tree, gain=2.0)
    assert out[0]["b"] is tree[0]["b"]
    np.testing.assert_allclose(out[1][0], 2 * np.eye(2), atol=1e-6)
    only = recovery.orthp(tree, gain=2.0, where=lambda path, leaf: path == "0/w")
    assert only[1][0] is tree[1][0]
    assert not np.allclose(only[0]["w"], tree[0]["w"])


def test_pytorch_layout_is_the_transpose():
    kernel = jnp.asarray(np.random.default_rng(3).normal(size=(7, 3)), jnp.float32)
    here = recovery.orthogonalize(kernel, gain=1.0)
    np.testing.assert_allclose(recovery.orthogonalize(kernel.T, gain=1.0, output_axis=0), here.T, atol=1e-6)
