"""The mean singular value of a data set at a budget: honest error bars, exact accounts, the right choice."""

import functools
import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from prune_jax.trainability import mean_estimate
from prune_jax.trainability.jacobian import jacobian_singular_values
from prune_jax.trainability.mean_estimate import Plan, mean_jsv_estimate

N, D, FEATURES, K = 40, 14, 6, 12
# these programs run for milliseconds: what they cost is LLVM's optimisation
quick_jit = partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
RNG = np.random.default_rng(0)
FIRST = jnp.asarray(RNG.normal(size=(D, FEATURES)) * np.geomspace(0.3, 0.03, FEATURES), jnp.float32)
HEAD = jnp.asarray(RNG.normal(size=(FEATURES, K)), jnp.float32)
X = jnp.asarray(RNG.normal(size=(N, D)), jnp.float32)


def network(head, x):
    """Jacobians of rank 6 that differ much between examples."""
    return (jnp.tanh(x @ FIRST) * jnp.linalg.norm(x, axis=1, keepdims=True)) @ head


@functools.cache
def exact():
    """The mean of each example."""
    return np.asarray(jacobian_singular_values(Partial(network, HEAD), X), np.float64).mean(1)


PLANS = {"exact": Plan("exact", 15), "leading": Plan("leading", 15, leading=2, pilot=8)}


@pytest.mark.parametrize(
    ("name", "population"),
    [
        ("exact", None),
        ("leading", None),
        pytest.param("leading", math.inf, marks=pytest.mark.slow),
    ],
)
def test_error_bars_are_calibrated_over_keys(name, population):
    keys = jax.random.split(jax.random.key(1), 150)

    @quick_jit
    @jax.vmap
    def run(key):
        found = mean_jsv_estimate(
            Partial(network, HEAD), X, method=PLANS[name], key=key, batch=N, population=population
        )
        return found.value, found.error

    value, error = map(np.asarray, run(keys))
    off = (value - exact().mean()) / error
    assert abs(off.mean()) < 0.5  # regression's bias is of order 1/n: well under its error
    if population:  # the 40 are a sample themselves: the error is that of the wider mean
        spread = exact().std(ddof=1) / math.sqrt(N)
        assert (error > 0.8 * spread).mean() > 0.9
        return
    # 150 keys count to 0.038 and 0.018; 15 examples make the error itself uncertain by a fifth
    assert (np.abs(off) < 1).mean() > 0.68 - 0.12
    assert (np.abs(off) < 2).mean() > 0.95 - 0.07
    # nor are they far too wide, where noise is what makes them; the root mean square is the unbiased one
    assert np.std(value) > 0.6 * np.sqrt(np.mean(error**2))


@pytest.mark.slow
def test_auto_stays_within_its_budget_and_its_error():
    for budget in (230, 150):
        found = mean_jsv_estimate(Partial(network, HEAD), X, budget=budget, key=jax.random.key(2), batch=N)
        assert budget / 2 < found.pull_backs <= budget
        assert abs(found.value - exact().mean()) < 3 * found.error
        assert found.error < 0.1 * exact().mean()


def test_enough_budget_gives_the_exact_mean_by_as_many_pull_backs_as_there_are_features():
    found = mean_jsv_estimate(Partial(network, HEAD), X, budget=N * FEATURES, key=jax.random.key(2), batch=N)
    np.testing.assert_allclose(found.value, exact().mean(), rtol=5e-6)  # the same values, summed in float32
    assert found.error == 0
    assert found.pull_backs == N * FEATURES


@pytest.mark.slow
def test_more_outputs_than_inputs_take_a_pull_back_each():
    wide = jnp.asarray(np.random.default_rng(1).normal(size=(D, 3 * D)), jnp.float32)
    exact = np.asarray(jacobian_singular_values(Partial(_tanh, wide), X), np.float64).mean(1)
    found = mean_jsv_estimate(Partial(_tanh, wide), X, budget=20 * D, key=jax.random.key(3), batch=N)
    assert found.pull_backs == 20 * D  # D features are behind the 3 D outputs
    assert abs(found.value - exact.mean()) < 4 * found.error


def _tanh(wide, x):
    return jnp.tanh(x) @ wide


@pytest.mark.parametrize(
    ("between", "residual", "winner"),
    [
        # 20 exact spectra leave 1/20 - 1/100; 13 with 4 directions of each example 1/13 - 1/100: 1.67 times that
        (1.0, {4: 0.02, 8: 0.01}, ("leading", 13, 4)),
        (1.0, {4: 0.29}, ("leading", 13, 4)),
        (1.0, {4: 0.31}, ("exact", 20, 0)),  # less error, but not clearly
        (1.0, {1: 0.1, 4: 0.09}, ("leading", 18, 1)),
        (1.0, {8: 1e-9}, ("exact", 20, 0)),  # leaves 4 exact spectra: too few for a regression
        (1.0, {}, ("exact", 20, 0)),
    ],
)
def test_the_default_takes_what_the_pilot_predicts_to_win_clearly(between, residual, winner):
    assert mean_estimate.best_plan((between, residual), 100, 50, 1000)[:3] == winner


def test_a_pilot_reads_variances_and_residuals_of_known_matrices():
    """An example's easy value is along the directions that the others' Jacobians show."""
    rng = np.random.default_rng(4)
    factors = rng.normal(size=(5, 6, 6)) * np.geomspace(3, 0.1, 6)[None, :, None]
    between, residual = mean_estimate.variances(factors @ factors.mT, 6)
    means = np.linalg.svd(factors, compute_uv=False).mean(1)
    np.testing.assert_allclose(between, means.var(ddof=1))
    assert sorted(residual) == [1, 2, 4]
    easy = []
    for i, factor in enumerate(factors):
        leading = np.linalg.svd(np.concatenate(np.delete(factors, i, 0), 1))[0][:, :2]
        easy.append(np.linalg.svd(leading.T @ factor, compute_uv=False).sum() / 6)
    _, left, *_ = np.polyfit(easy, means, 1, full=True)
    np.testing.assert_allclose(residual[2], left[0] / 3)


@pytest.mark.parametrize("outputs", [pytest.param(4, marks=pytest.mark.slow), K])
def test_combinations_of_seeds_are_combinations_of_the_outputs(outputs):
    """The singular values along directions, where a last linear map narrows the seeds and where none does."""
    apply = Partial(network, HEAD[:, :outputs])
    data = mean_estimate._data(apply, X[:5], 5, check=True)
    mix = jnp.asarray(np.linalg.qr(RNG.normal(size=(data.each, 2)))[0].T, jnp.float32)
    both = mean_estimate._measured(data, jnp.arange(5), partial(mean_estimate._sums, mix))
    alone = mean_estimate._measured(data, jnp.arange(5), partial(mean_estimate._sums, None), mix)
    np.testing.assert_allclose(both[:, 1:], alone, rtol=1e-5)
    exact = np.asarray(jacobian_singular_values(apply, X[:5]))
    np.testing.assert_allclose(both[:, 0], exact.sum(1), rtol=1e-5)
    assert data.each == min(outputs, FEATURES)


def test_sample_means_have_the_variance_that_all_samples_show():
    population = np.array([1.0, 2.0, 4.0, 8.0, 5.0])
    found = [
        mean_estimate.sample_mean(jnp.asarray(s, jnp.float32), 5)
        for s in itertools.combinations(population, 3)
    ]
    values, errors = np.array(found, np.float64).T
    np.testing.assert_allclose(values.mean(), population.mean(), rtol=1e-6)
    np.testing.assert_allclose((errors**2).mean(), values.var(), rtol=1e-5)
    assert mean_estimate.sample_mean(jnp.asarray(population), 5)[1] == 0
    # one of one is all there is; one of many has no spread
    assert mean_estimate.sample_mean(jnp.ones(1), 1)[1] == 0
    assert np.isnan(mean_estimate.sample_mean(jnp.ones(1), 2)[1])


def test_regression_is_exact_on_a_line_and_reads_numpys_fit_else():
    easy = jnp.asarray([1.0, 2.0, 4.0, 7.0])
    rest = jnp.asarray([3.0, 10.0])
    value, error = mean_estimate.regression_mean(3 * easy - 1, easy, rest, 6)
    np.testing.assert_allclose(value, 3 * 27 / 6 - 1, rtol=1e-6)
    assert error < 1e-5
    noisy = np.array([1.0, 3.0, 2.0, 9.0])
    slope, offset = np.polyfit(np.asarray(easy), noisy, 1)
    value, error = mean_estimate.regression_mean(jnp.asarray(noisy, jnp.float32), easy, rest, 6)
    np.testing.assert_allclose(value, slope * 27 / 6 + offset, rtol=1e-5)
    # the jackknife's definition: how the estimate moves when one of the sample is left out, to first order
    leverage = 1 / 4 + (np.asarray(easy) - 3.5) ** 2 / 21
    residual = (noisy - slope * np.asarray(easy) - offset) / (1 - leverage)
    weights = 1 / 4 + (np.asarray(easy) - 3.5) * (27 / 6 - 3.5) / 21
    np.testing.assert_allclose(error**2, (1 - 4 / 6) * ((weights * residual) ** 2).sum(), rtol=1e-4)
    with pytest.raises(ValueError, match="regression on 2 examples has no error bar"):
        mean_estimate.regression_mean(easy[:2], easy[:2], rest, 6)
    flat = mean_estimate.regression_mean(jnp.asarray(noisy, jnp.float32), 0 * easy, 0 * rest, 6)
    np.testing.assert_allclose(flat[0], noisy.mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"budget": 0}, "under the minimum"),
        ({"budget": 11, "method": "exact"}, "minimum of 12 pull-backs: exact spectra take 6 an example"),
        ({"budget": 100, "method": "lanczos"}, "'lanczos' is gone.*over_examples.mean_jsv_by_quadrature"),
        ({"budget": 100, "method": "best"}, "allowed: auto, exact"),
        ({"budget": None}, "needs a budget of pull-backs, or a Plan"),
        ({"budget": math.nan}, "budget nan is not a whole number"),
        ({"budget": math.inf}, "budget inf is not a whole number"),
        ({"budget": 100.5}, "budget 100.5 is not a whole number"),
        ({"budget": 11}, "budget 11 is under the minimum of 12 pull-backs"),
        (
            {"budget": 60, "method": "leading"},
            "budget 60 is too small for method 'leading'; 128 pull-backs are enough",
        ),
        ({"budget": 100, "population": math.nan}, "population is nan"),
        ({"budget": 100, "population": 3}, "x holds 40 examples"),
        ({"budget": 100, "batch": 0}, "batch is 0"),
        ({"budget": 100, "batch": 2.5}, "batch 2.5 is not a whole number"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        mean_jsv_estimate(Partial(network, HEAD), X, key=jax.random.key(0), **kwargs)


def test_weights_that_are_not_finite_are_named():
    broken = Partial(network, HEAD.at[0, 0].set(jnp.nan))
    with pytest.raises(ValueError, match="holds NaN or infinity in 1 of 72 values"):
        mean_jsv_estimate(broken, X, budget=100, key=jax.random.key(0))
