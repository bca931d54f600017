"""First derivatives of singular values and of what is made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from prune_jax import trainability
from prune_jax.trainability.singular_values import singular_values

METHODS = ("svd", "gram", "gram64")
RANDOM = np.random.default_rng(0)
ORTHOGONAL = np.linalg.qr(RANDOM.normal(size=(6, 4)))[0].T
# rank 4, equal values, rank 2, one row of zeros, nothing at all; 32 bits, so that 'gram' resolves a thousandth
MATRICES = np.stack(
    [
        RANDOM.normal(size=(4, 6)),
        1.5 * ORTHOGONAL,
        RANDOM.normal(size=(4, 2)) @ RANDOM.normal(size=(2, 6)),
        ORTHOGONAL * np.array([2.0, 1.0, 1.0, 0.0])[:, None],
        np.zeros((4, 6)),
    ]
)


def polar(matrix):
    """The subgradient of least norm of the sum of singular values, in float64."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    kept = s > 1e-6 * max(s[0], 1e-30)
    return u[:, kept] @ vt[kept]


def total(matrices, method):
    return singular_values(jnp.moveaxis(matrices, 1, 0), method).sum()


@pytest.mark.parametrize("method", METHODS)
def test_the_sum_has_its_subgradient_of_least_norm_at_equal_and_at_zero_values(method):
    wanted = np.stack([polar(m) for m in MATRICES])
    given = jnp.asarray(MATRICES, jnp.float32)
    gradient = jax.jit(jax.grad(total), static_argnums=1)
    # 'gram' squares the condition number, which is 30 here
    np.testing.assert_allclose(gradient(given, method), wanted, atol=2e-4)
    if method != "gram":
        return
    wide = gradient(jnp.moveaxis(given, 1, 2), "svd")  # tall ones
    np.testing.assert_allclose(wide, np.moveaxis(wanted, 1, 2), atol=2e-5)


def test_derivatives_forward_and_of_single_values_and_under_vmap():
    s = np.array([3.0, 2.0, 1.0, 0.5])
    u = np.linalg.qr(RANDOM.normal(size=(4, 4)))[0]
    matrix, moved = (u * s) @ ORTHOGONAL, RANDOM.normal(size=(4, 6))
    wanted = np.einsum("ki,kd,id->i", u, moved, ORTHOGONAL)
    one = lambda m: singular_values(m[:, None], "gram64")[0]  # noqa: E731
    given = (jnp.asarray(matrix, jnp.float32),), (jnp.asarray(moved, jnp.float32),)
    np.testing.assert_allclose(jax.jit(lambda *g: jax.jvp(one, *g)[1])(*given), wanted, atol=1e-5)
    many = jax.jit(jax.vmap(jax.jacrev(one)))(jnp.stack([given[0][0]] * 2))
    np.testing.assert_allclose(np.einsum("bikd,kd->bi", many, moved), [wanted] * 2, atol=1e-5)


def network(weights, x):
    first, last = weights
    return jnp.tanh(x @ first) @ last


def closed_form(weights, x):
    """Mean over examples and values of the singular values, in NumPy's float64."""
    first, last = (np.asarray(w, np.float64) for w in weights)
    slopes = 1 - np.tanh(np.asarray(x, np.float64) @ first) ** 2
    found = [np.linalg.svd((first * slope) @ last, compute_uv=False) for slope in slopes]
    return np.mean(found)


def along(weights, direction, size):
    return [w + size * d for w, d in zip(weights, direction, strict=True)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dead", [False, True])
def test_mean_jsv_of_a_network_equals_finite_differences(method, dead):
    # both linear ends are left out: 3 features between 5 inputs and 4 outputs
    weights = [RANDOM.normal(size=(5, 3)) / 2, RANDOM.normal(size=(3, 4))]
    direction = [RANDOM.normal(size=w.shape) for w in weights]
    if dead:  # a channel that neither reads nor is read; the direction leaves it alone
        for tree in (weights, direction):
            tree[0][:, 1], tree[1][1] = 0, 0
    x = RANDOM.normal(size=(2, 5))
    ahead, behind = (closed_form(along(weights, direction, h), x) for h in (1e-5, -1e-5))
    wanted = (ahead - behind) / 2e-5
    single = [jnp.asarray(w, jnp.float32) for w in weights]
    mean = lambda w: trainability.mean_jsv(Partial(network, w), jnp.asarray(x, jnp.float32), method=method)  # noqa: E731
    gradient = jax.grad(mean)(single)
    assert all(np.isfinite(g).all() for g in gradient)
    got = sum(float(jnp.sum(g * d)) for g, d in zip(gradient, direction, strict=True))
    np.testing.assert_allclose(got, wanted, atol=2e-4)  # rounding of float32 over a few hundred terms


def test_a_network_trains_with_mean_jsv_as_its_regulariser():
    x = jax.random.normal(jax.random.key(1), (4, 5))
    weights = [0.3 * jax.random.normal(jax.random.key(i), s) for i, s in ((2, (5, 3)), (3, (3, 4)))]

    def penalty(w):
        return jnp.square(trainability.mean_jsv(Partial(network, w), x) - 1)

    @jax.jit
    def step(w):
        loss, gradient = jax.value_and_grad(penalty)(w)
        return loss, jax.tree.map(lambda a, g: a - 0.5 * g, w, gradient)

    losses = []
    for _ in range(20):
        loss, weights = step(weights)
        losses.append(float(loss))
    assert losses[-1] < 0.05 * losses[0]
    assert np.isfinite(losses).all()


def test_isometry_gap_has_a_derivative_at_an_isometry():
    slope = jax.jit(jax.grad(lambda k: trainability.isometry_gap(k, gain=0.5)))
    gradient = slope(jnp.asarray(ORTHOGONAL.T, jnp.float32))
    np.testing.assert_allclose(gradient, 2 * ORTHOGONAL.T / 0.5 / 4 * (1 / 0.5 - 1), atol=1e-5)
