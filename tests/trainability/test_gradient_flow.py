import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from prune_jax.trainability.gradient_flow import gradient_flow, hessian_vector_product


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
        got = gradient_flow(lambda w: 0.5 * w @ jnp.asarray(matrix) @ w, jnp.asarray(at))
        np.testing.assert_allclose(got.norm, np.linalg.norm(g), rtol=1e-12)
        np.testing.assert_allclose(got.flow, g @ g, rtol=1e-12)
        np.testing.assert_allclose(got.curvature, g @ matrix @ g, rtol=1e-12)


def test_a_tiny_network_equals_the_dense_hessian_under_jit_too():
    with jax.enable_x64(True):
        loss, params = tiny()
        flat, unravel = ravel_pytree(params)
        g = np.asarray(jax.grad(lambda v: loss(unravel(v)))(flat))
        hessian = np.asarray(jax.hessian(lambda v: loss(unravel(v)))(flat))
        got = jax.jit(lambda p: gradient_flow(loss, p))(params)
        np.testing.assert_allclose(got.curvature, g @ hessian @ g, rtol=1e-10)
        np.testing.assert_allclose(got.flow, g @ g, rtol=1e-10)
        v = np.random.default_rng(2).normal(size=flat.shape)
        product = hessian_vector_product(loss, params, unravel(jnp.asarray(v)))
        np.testing.assert_allclose(ravel_pytree(product)[0], hessian @ v, rtol=1e-10, atol=1e-12)


def test_the_flow_and_its_slope_are_what_a_small_gradient_step_does():
    with jax.enable_x64(True):
        loss, params = tiny(seed=3)
        here = gradient_flow(loss, params)
        step = 1e-6
        g = jax.grad(loss)(params)
        ahead, behind = (jax.tree.map(lambda p, d, s=s: p - s * d, params, g) for s in (step, -step))
        slope = (loss(ahead) - loss(behind)) / (2 * step)
        np.testing.assert_allclose(slope, -here.flow, rtol=1e-6)
        slope = (gradient_flow(loss, ahead).flow - gradient_flow(loss, behind).flow) / (2 * step)
        # central differences of step 1e-6 leave about 1e-10 / 1e-6 of rounding
        np.testing.assert_allclose(slope, -2 * here.curvature, rtol=1e-4)


def test_bf16_weights_accumulate_in_float32():
    params = jnp.full((4096,), 1.0, jnp.bfloat16)
    got = gradient_flow(lambda w: jnp.sum(w.astype(jnp.float32) ** 2) / 2, params)
    assert got.flow.dtype == jnp.float32
    assert got.flow == 4096.0  # a bfloat16 sum of ones stops at 256
    assert got.curvature == 4096.0


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
