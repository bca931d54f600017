"""Examples that depend on one another are refused by every instrument."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from prune_jax import trainability
from prune_jax.trainability import checks

W = np.eye(3, dtype=np.float32)
X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
KEY = jax.random.key(1)


def centred(w, x):
    y = x @ w
    return y - y.mean(0, keepdims=True)


tied = Partial(centred, W)
INSTRUMENTS = {
    "jacobians": lambda **k: trainability.jacobians(tied, X, **k),
    "jacobian_singular_values": lambda **k: trainability.jacobian_singular_values(tied, X, **k),
    "mean_jsv": lambda **k: trainability.mean_jsv(tied, X, **k),
    "jacobian_isometry_gap": lambda **k: trainability.jacobian_isometry_gap(tied, X, **k),
    "spectrum": lambda **k: trainability.spectrum(tied, X, **k),
    "mean_squared_jsv": lambda **k: trainability.mean_squared_jsv(tied, X, budget=2, key=KEY, **k),
    "mean_jsv_by_quadrature": lambda **k: trainability.mean_jsv_by_quadrature(
        tied, X, budget=20, key=KEY, **k
    ),
    "log_determinant": lambda **k: trainability.log_determinant_by_quadrature(
        tied, X, budget=20, key=KEY, **k
    ),
    "spectral_density": lambda **k: trainability.spectral_density(
        tied, X, points=jnp.ones(1), width=0.1, budget=20, key=KEY, **k
    ),
    "largest_jsv": lambda **k: trainability.largest_jsv(tied, X, 1, budget=6, key=KEY, **k),
    "smallest_jsv": lambda **k: trainability.smallest_jsv(tied, X, 1, budget=6, key=KEY, **k),
    "mean_jsv_estimate": lambda **k: trainability.mean_jsv_estimate(tied, X, budget=12, key=KEY, **k),
    "plan_mean_jsv": lambda **k: trainability.plan_mean_jsv(tied, X, budget=12, key=KEY, **k),
    "ntk_matrix": lambda **k: trainability.ntk_matrix(centred, W, X, **k),
    "ntk_spectrum": lambda **k: trainability.ntk_spectrum(centred, W, X, **k),
    "ntk_product": lambda **k: trainability.ntk_product(centred, W, X, **k),
    "ntk_trace": lambda **k: trainability.ntk_trace(centred, W, X, KEY, probes=2, **k),
    "ntk_top": lambda **k: trainability.ntk_top(centred, W, X, KEY, count=1, steps=1, **k),
}


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_every_instrument_refuses_and_says_the_way_out(name):
    with pytest.raises(
        ValueError, match=r"first example change with the second .*evaluation mode.*check=False"
    ):
        INSTRUMENTS[name]()


@pytest.mark.parametrize("name", ["jacobian_singular_values", "ntk_product", "plan_mean_jsv"])
def test_who_wants_it_all_the_same_says_so(name):
    INSTRUMENTS[name](check=False)


def test_values_that_have_no_derivative_and_equal_examples_are_seen():
    def stopped(x):
        return x - jax.lax.stop_gradient(x.mean(0, keepdims=True))

    for x in (X, jnp.ones((4, 3)), jnp.zeros((2, 3))):
        with pytest.raises(ValueError, match="first example"):
            checks.check_independent(stopped, x)


@pytest.mark.parametrize(
    "tied",
    [
        lambda x: x * len(x),
        lambda x: x / len(x) ** 0.5,
        lambda x: x + 0.01 * len(x),
        lambda x: x.at[1:].add(x[:-1])[::-1],
    ],
)
def test_what_changes_with_the_size_of_the_batch_or_the_place_in_it_is_seen(tied):
    with pytest.raises(ValueError, match="with the size of the batch"):
        trainability.jacobian_singular_values(tied, X)


@pytest.mark.parametrize(
    "dtype",
    [jnp.bfloat16, *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in (jnp.float32, jnp.float16))],
)
def test_rounding_alone_is_no_dependence(dtype):
    """A deep network in a coarse format, alone and in a batch: other shapes may add in another order."""
    w = jax.random.normal(jax.random.key(2), (6, 64, 64), dtype) * dtype(0.15)

    def deep(x):
        x = x.astype(dtype)
        for layer in w:
            x = jnp.tanh(x @ layer)
        return x.astype(jnp.float32)

    checks.check_independent(deep, jax.random.normal(KEY, (4, 64)))
    with pytest.raises(ValueError, match="evaluation mode"):
        checks.check_independent(
            lambda x: deep(x) - deep(x).mean(0, keepdims=True), jax.random.normal(KEY, (4, 64))
        )


def test_what_can_not_be_seen_is_passed_over():
    jax.jit(lambda x: trainability.jacobian_singular_values(tied, x))(X)
    checks.check_independent(tied, X[:1])
    held = jnp.ones((4, 3))
    checks.check_independent(lambda x: x + held, X)  # takes no other batch
    checks.check_independent(lambda x: jnp.log(x), -X)  # not a number: others say so
    jax.jit(lambda w: jnp.float32(checks.check_independent(lambda x: x @ w, X) is None))(W)
