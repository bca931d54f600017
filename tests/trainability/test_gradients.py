import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from prune_jax.trainability.learning import gradient_flow, hessian_vector_product


def tiny(seed=0):
    rng = np.random.default_rng(seed)
    params = {"w": jnp.asarray(rng.normal(size=(3, 4))), "out": [jnp.asarray(rng.normal(size=(4, 2)))]}
    x, y = jnp.asarray(rng.normal(size=(5, 3))), jnp.asarray(rng.normal(size=(5, 2)))

    def loss(p):
        return jnp.mean(jnp.square(jnp.tanh(x @ p["w"]) @ p["out"][0] - y))

    return loss, params


def test_a_quadratic_has_the_closed_form():
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(6, 6))
    matrix = matrix @ matrix.T
    at = rng.normal(size=6)
    g = matrix @ at
    with jax.enable_x64(True):
        got = jax.jit(lambda w: gradient_flow(lambda u: 0.5 * u @ matrix @ u, w))(jnp.asarray(at))
        np.testing.assert_allclose(got.norm, np.linalg.norm(g), rtol=1e-12)
        np.testing.assert_allclose(got.flow, g @ g, rtol=1e-12)
        np.testing.assert_allclose(got.curvature, g @ matrix @ g, rtol=1e-12)


def test_a_tiny_network_equals_the_dense_hessian_and_what_a_small_gradient_step_does():
    with jax.enable_x64(True):
        loss, params = tiny()
        flat, unravel = ravel_pytree(params)
        v = jnp.asarray(np.random.default_rng(2).normal(size=flat.shape))

        @jax.jit
        def measured(w):
            return gradient_flow(loss, unravel(w)), hessian_vector_product(loss, unravel(w), unravel(v))

        @jax.jit
        def dense(w):
            function = lambda u: loss(unravel(u))  # noqa: E731
            return function(w), jax.grad(function)(w), jax.hessian(function)(w)

        (here, product), (_, g, hessian) = measured(flat), dense(flat)
        np.testing.assert_allclose(here.norm, np.linalg.norm(g), rtol=1e-10)
        np.testing.assert_allclose(here.flow, g @ g, rtol=1e-10)
        np.testing.assert_allclose(here.curvature, g @ hessian @ g, rtol=1e-10)
        np.testing.assert_allclose(ravel_pytree(product)[0], hessian @ v, rtol=1e-10, atol=1e-12)
        ahead, behind = flat - 1e-6 * g, flat + 1e-6 * g
        # central differences of step 1e-6 leave about 1e-10 / 1e-6 of rounding
        slope = (dense(ahead)[0] - dense(behind)[0]) / 2e-6
        np.testing.assert_allclose(slope, -here.flow, rtol=1e-6)
        slope = (measured(ahead)[0].flow - measured(behind)[0].flow) / 2e-6
        np.testing.assert_allclose(slope, -2 * here.curvature, rtol=1e-4)


def test_bf16_weights_accumulate_in_float32():
    params = jnp.full((4096,), 1.0, jnp.bfloat16)
    got = jax.jit(lambda w: gradient_flow(lambda u: jnp.sum(u.astype(jnp.float32) ** 2) / 2, w))(params)
    assert got.flow.dtype == jnp.float32
    assert got.flow == 4096.0  # a bfloat16 sum of ones stops at 256
    assert got.curvature == 4096.0


def test_constants_inside_a_jit_are_looked_at():
    def flow(w):
        return jax.jit(lambda c: gradient_flow(lambda p: c * p["w"].sum(), {"w": w}).flow)(2.0)

    assert flow(jnp.ones(2)) == 8.0
    with pytest.raises(ValueError, match="leaf 'w' holds NaN"):
        flow(jnp.array([1.0, jnp.nan]))


@pytest.mark.parametrize(
    ("loss", "params", "message"),
    [
        (lambda p: p["a"], {"a": jnp.ones(3)}, r"shape \(3,\); it must be a scalar"),
        (lambda p: p["a"].sum(), {"a": jnp.ones(3, jnp.int32)}, "leaf 'a' has dtype int32"),
        (lambda p: p["a"].sum(), {"a": jnp.ones(3), "b": [jnp.full(2, jnp.inf)]}, "leaf 'b/0' holds NaN"),
        (lambda p: 0.0, {}, "params hold no arrays"),
    ],
)
def test_bad_input_is_named(loss, params, message):
    with pytest.raises(ValueError, match=message):
        gradient_flow(loss, params)


@pytest.mark.parametrize("vector", [{"v": jnp.ones(3)}, {"w": jnp.ones(2)}, jnp.ones(3)])
def test_a_vector_of_other_leaves_is_refused(vector):
    with pytest.raises(ValueError, match="H v needs the same leaves"):
        hessian_vector_product(lambda p: jnp.sum(p["w"] ** 2), {"w": jnp.ones(3)}, vector)
