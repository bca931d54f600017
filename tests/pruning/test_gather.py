"""Evidence gathered over batches, against NumPy and whole Hessians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.pruning.evidence import gather, gatherer

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 2))
PARAMS = {
    "w": jnp.asarray(RNG.normal(size=(3, 2)), jnp.float32),
    "steps": jnp.arange(3),
    "rng": jax.random.key(0),
}
ROUNDING = {"rtol": 2e-5, "atol": 1e-6}  # float32 against float64


def batches(*sizes):
    """The same seven examples in batches of these sizes."""
    ends = np.cumsum(sizes)[:-1]
    pairs = zip(np.split(X, ends), np.split(Y, ends), strict=True)
    return [(x.astype(np.float32), y.astype(np.float32)) for x, y in pairs]


def loss(params, batch):
    x, y = batch
    return ((x @ params["w"] - y) ** 2).sum(1).mean()


def gradient(x, y):
    """By hand: the mean over examples of 2 x (x w - y)."""
    return 2 * x.T @ (x @ np.asarray(PARAMS["w"], np.float64) - y) / len(x)


@pytest.mark.parametrize("sizes", [(7,), (4, 3), (3, 3, 1)])
def test_the_mean_gradient_weighs_every_example_alike(sizes):
    evidence = gather({"grads"}, PARAMS, batches(*sizes), loss=loss)
    np.testing.assert_allclose(evidence.grads["w"], gradient(X, Y), **ROUNDING)
    assert jax.tree.structure(evidence.grads) == jax.tree.structure(PARAMS)
    np.testing.assert_array_equal(evidence.grads["steps"], np.zeros(3))  # whole numbers have no gradient
    assert evidence.grads_squared is evidence.activations is evidence.hessian_products is None


def test_squared_gradients_of_batches():
    evidence = gather({"grads_squared"}, PARAMS, batches(4, 3), loss=loss)
    wanted = (4 * gradient(X[:4], Y[:4]) ** 2 + 3 * gradient(X[4:], Y[4:]) ** 2) / 7
    np.testing.assert_allclose(evidence.grads_squared["w"], wanted, **ROUNDING)
    assert evidence.grads is None


def test_squared_gradients_of_single_examples():
    needs = {"grads", "grads_squared"}
    evidence = gather(needs, PARAMS, batches(4, 3), loss=loss, per_example=True)
    each = [gradient(X[k : k + 1], Y[k : k + 1]) for k in range(7)]
    np.testing.assert_allclose(evidence.grads_squared["w"], np.mean(np.square(each), axis=0), **ROUNDING)
    np.testing.assert_allclose(evidence.grads["w"], np.mean(each, axis=0), **ROUNDING)


def test_a_diagonal_hessian_is_found_exactly_with_one_draw():
    def separable(params, batch):  # H is diagonal: 12 w^2 mean(x)
        return (params["w"] ** 4).sum() * batch.mean()

    data = [np.full(4, 2.0, np.float32), np.full(2, 5.0, np.float32)]
    evidence = gather({"hessian_products"}, PARAMS, data, loss=separable, key=jax.random.key(1))
    wanted = 12 * np.asarray(PARAMS["w"], np.float64) ** 2 * 3.0  # the mean over six examples
    np.testing.assert_allclose(evidence.hessian_products["w"], wanted, **ROUNDING)


@pytest.mark.slow
def test_a_full_hessians_diagonal_is_estimated_without_bias():
    weights, draws = {"w": PARAMS["w"]}, 400
    needs, key = {"hessian_products"}, jax.random.key(1)
    evidence = gather(needs, weights, batches(4, 3), loss=loss, key=key, samples=draws // 2)

    def hessian(x, y):
        return np.asarray(jax.hessian(loss)(weights, (x, y))["w"]["w"]).reshape(6, 6)

    # The variance of z_i (H z)_i is the sum of the squares of row i off the diagonal; batches have 4/7 and 3/7 weight.
    rows = [((h * (1 - np.eye(6))) ** 2).sum(1) for h in (hessian(X[:4], Y[:4]), hessian(X[4:], Y[4:]))]
    spread = np.sqrt((16 * rows[0] + 9 * rows[1]) / 49 / (draws // 2))
    diagonal = np.diag(hessian(X, Y))
    error = np.abs(evidence.hessian_products["w"].reshape(-1) - diagonal)
    assert (error < 4 * spread).all()
    assert (4 * spread < diagonal / 2).all()  # so the bound above says something
    again = gather(needs, weights, batches(4, 3), loss=loss, key=key, samples=draws // 2)
    np.testing.assert_array_equal(again.hessian_products["w"], evidence.hessian_products["w"])


def test_low_precision_gradients_are_summed_in_float32():
    params = {"w": PARAMS["w"].astype(jnp.bfloat16)}
    evidence = gather({"grads"}, params, batches(4, 3), loss=loss)
    assert evidence.grads["w"].dtype == jnp.float32


def test_one_compilation_serves_all_networks_and_batches():
    traced = []

    def watched(params, batch):
        traced.append(1)
        return loss(params, batch)

    gathered = gatherer({"grads"}, loss=watched)
    first = gathered(PARAMS, batches(7))
    count = len(traced)
    double = {**PARAMS, "w": 2 * PARAMS["w"]}
    second = gathered(double, batches(7))
    assert len(traced) == count
    assert (np.asarray(first.grads["w"]) != np.asarray(second.grads["w"])).any()


def test_a_key_is_handed_on_and_needs_no_data():
    key = jax.random.key(3)
    evidence = gather({"key"}, PARAMS, [], key=key)
    assert evidence.key is key
    assert evidence.grads is None


def test_what_cant_be_gathered_is_refused_before_any_work():
    with pytest.raises(
        ValueError, match=r"'gradients' is no field of evidence; needs are among activations, .*"
    ):
        gatherer({"gradients"})
    with pytest.raises(ValueError, match="'grads' needs a loss"):
        gatherer({"grads"})
    with pytest.raises(ValueError, match="'activations' needs apply="):
        gatherer({"activations"}, loss=loss)
    with pytest.raises(ValueError, match="samples is 0"):
        gatherer({"hessian_products"}, loss=loss, samples=0)
    with pytest.raises(ValueError, match="PRNG key is needed"):
        gather({"hessian_products"}, PARAMS, batches(7), loss=loss)
    with pytest.raises(ValueError, match="no batches"):
        gather({"grads"}, PARAMS, [], loss=loss)
