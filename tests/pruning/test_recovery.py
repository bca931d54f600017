import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.pruning import recovery


def companion(m):
    """OrthP of M (outputs, inputs) in float64, by Gram-Schmidt: R's diagonal is positive."""
    rows = m if m.shape[0] >= m.shape[1] else m.T
    basis = np.zeros_like(rows)
    for j in range(rows.shape[1]):
        rest = rows[:, j] - basis[:, :j] @ (basis[:, :j].T @ rows[:, j])
        basis[:, j] = rest / np.linalg.norm(rest)
    return basis if m.shape[0] >= m.shape[1] else basis.T


def to_torch(kernel):
    """(*space, channels, outputs) as (outputs, channels, *space)."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (5, 5), (3, 2, 2, 7), (3, 2, 2, 12), (2, 2, 2, 9)])
def test_equals_the_companions_definition_in_its_flattening_order(shape):
    kernel = np.random.default_rng(1).normal(size=shape)
    m = to_torch(kernel)
    wanted = np.sqrt(2) * companion(m.reshape(m.shape[0], -1)).reshape(m.shape)
    got = recovery.orthogonalize(jax.device_put(kernel.astype(np.float32)), gain=np.sqrt(2))
    # rounding of float32 times the condition of a random matrix, at most a few tens
    np.testing.assert_allclose(to_torch(np.asarray(got)), wanted, atol=2e-5)
    same = recovery.orthogonalize(jax.device_put(m.astype(np.float32)), gain=np.sqrt(2), output_axis=0)
    np.testing.assert_array_equal(same, to_torch(np.asarray(got)))


def test_an_orthogonal_kernel_stays():
    q = np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))[0].astype(np.float32)
    np.testing.assert_allclose(recovery.orthogonalize(jnp.asarray(q), gain=1.0), q, atol=1e-6)


def test_any_pytree_biases_and_integers_untouched_and_the_choice_is_the_callers():
    tree = ({"w": jnp.arange(6.0).reshape(3, 2), "b": jnp.ones(2)}, [jnp.eye(2) * 3, jnp.ones((2, 2), int)])
    out = recovery.orthp(tree, gain=2.0)
    assert out[0]["b"] is tree[0]["b"]
    assert out[1][1] is tree[1][1]
    np.testing.assert_allclose(out[1][0], 2 * np.eye(2), atol=1e-6)
    only = recovery.orthp(tree, gain=2.0, where=lambda path, leaf: path == "0/w")
    assert only[1][0] is tree[1][0]
    assert not np.allclose(only[0]["w"], tree[0]["w"])
    for name, found in (("0/b", r"leaf '0/b': .*rank 2 or more"), ("1/1", r"leaf '1/1': .*int32")):
        with pytest.raises(ValueError, match=found):
            recovery.orthp(tree, gain=1.0, where=lambda path, leaf, name=name: path == name)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [((0, 2, 3, 5), (1, 3, 4)), ((1, 4), (0, 2, 3, 4)), (range(6), (0, 3)), ((2, 5), range(5))],
)
def test_what_a_mask_leaves_is_the_smaller_kernels_recovery(rows, columns):
    kernel = np.random.default_rng(4).normal(size=(6, 5)).astype(np.float32)
    at = np.ix_(list(rows), list(columns))
    mask = np.zeros((6, 5), np.float32)
    mask[at] = 1
    wanted = np.zeros((6, 5))
    wanted[at] = companion(kernel[at].T.astype(np.float64)).T
    for given, held in ((kernel, {"k": jnp.asarray(mask)}), (kernel * mask, None)):
        got = recovery.orthp({"k": jnp.asarray(given)}, gain=1.0, mask=held)["k"]
        np.testing.assert_allclose(got, wanted, atol=1e-5)
        np.testing.assert_array_equal(np.asarray(got)[mask == 0], 0)


def test_single_weights_of_a_mask_stay_at_zero():
    kernel = jax.random.normal(jax.random.key(0), (6, 5))
    mask = jnp.ones((6, 5)).at[2, 3].set(0)
    got = recovery.orthp([kernel], gain=1.0, mask=[mask])[0]
    wanted = recovery.orthogonalize(kernel * mask, gain=1.0) * mask
    np.testing.assert_array_equal(got, wanted)


def test_a_narrow_format_is_computed_in_float32():
    kernel = jax.random.normal(jax.random.key(1), (6, 5)).astype(jnp.bfloat16)
    got = recovery.orthogonalize(kernel, gain=1.0)
    wanted = recovery.orthogonalize(kernel.astype(jnp.float32), gain=1.0).astype(jnp.bfloat16)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got.astype(jnp.float32), wanted.astype(jnp.float32))


def test_dense_kernels_of_several_axes_are_the_map_that_the_layer_computes():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jax.device_put(rng.normal(size=shape).astype(np.float32))  # noqa: E731
    params = {
        "attention": {"query": {"kernel": draw(6, 2, 3)}, "out": {"kernel": draw(2, 3, 6)}},
        "general": {"kernel": draw(6, 3, 2), "bias": jnp.zeros((3, 2))},
        "out": {"kernel": draw(3, 2, 6), "bias": jnp.zeros(6)},  # a convolution over one axis
    }
    found = recovery.orthp(params, gain=1.0)
    for kernel in jax.tree.leaves(found):
        if kernel.ndim > 2:
            matrix = np.asarray(kernel).reshape(6, 6)
            np.testing.assert_allclose(np.linalg.svd(matrix, compute_uv=False), 1, rtol=1e-5)
    m = to_torch(np.asarray(params["out"]["kernel"], np.float64)).reshape(6, 6)
    np.testing.assert_allclose(
        to_torch(np.asarray(found["out"]["kernel"])).reshape(6, 6), companion(m), atol=1e-5
    )


def test_traced_as_well():
    kernel = jax.random.normal(jax.random.key(2), (6, 5))
    step = jax.jit(lambda k, m: recovery.orthp(k, gain=1.0, mask=m))
    mask = jnp.ones((6, 5)).at[:, 1].set(0)
    np.testing.assert_allclose(step(kernel, mask), recovery.orthp(kernel, gain=1.0, mask=mask), atol=1e-6)


def test_examples_of_the_docstrings():
    assert doctest.testmod(recovery).failed == 0


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (3, 2, 2, 7)])
@pytest.mark.parametrize("gain", [1.0, 2**0.5])
def test_rescaling_gives_the_mean_square_of_orthp_and_keeps_directions(shape, gain):
    kernel = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    got = np.asarray(recovery.rescale({"k": jnp.asarray(kernel)}, gain=gain)["k"], np.float64)
    np.testing.assert_allclose(got / kernel, (got / kernel).flat[0], rtol=1e-5)  # float32
    values = np.linalg.svd(to_torch(got).reshape(shape[-1], -1))[1]
    assert np.sqrt((values**2).mean()) == pytest.approx(gain, rel=1e-5)


def test_rescaling_holds_a_mask_and_counts_no_dead_channel():
    kernel = np.random.default_rng(6).normal(size=(6, 5)).astype(np.float32)
    mask = np.ones_like(kernel)
    mask[[1, 4]] = mask[:, 2] = 0
    got = np.asarray(recovery.rescale([kernel], gain=1.0, mask=[mask])[0])
    small = recovery.rescale([kernel[[0, 2, 3, 5]][:, [0, 1, 3, 4]]], gain=1.0)[0]
    np.testing.assert_allclose(got[[0, 2, 3, 5]][:, [0, 1, 3, 4]], small, rtol=1e-6)
    assert not got[mask == 0].any()
    assert not np.asarray(recovery.rescale([jnp.zeros((2, 3))], gain=1.0)[0]).any()
    with pytest.raises(ValueError, match=r"leaf '0': .*can't be rescaled"):
        recovery.rescale([jnp.ones(3)], gain=1.0, where=lambda path, leaf: True)
