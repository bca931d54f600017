"""The mean singular value of a data set at a budget: honest error bars, exact accounts, the right choice."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from prune_jax.trainability import mean_estimate, mean_plan, quadrature
from prune_jax.trainability.jacobian import jacobian_singular_values
from prune_jax.trainability.mean_estimate import mean_jsv_estimate, plan_mean_jsv
from prune_jax.trainability.mean_plan import Plan, Setting, Spread
from prune_jax.trainability.operators import Jacobian

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


EXACT = np.asarray(jacobian_singular_values(Partial(network, HEAD), X), np.float64).mean(1)
PLANS = {
    "exact": Plan("exact", 15),
    "leading": Plan("leading", 15, leading=2, pushes=1, based_on=16, rank=6),
    "leading of all outputs": Plan("leading", 15, leading=2, pushes=1, based_on=16),
    "lanczos": Plan("lanczos", 70, steps=3, pushes=1, based_on=16, rank=6),
    "lanczos on some": Plan("lanczos", 25, steps=4, pushes=1, based_on=16, rank=6),
}


@pytest.mark.parametrize(
    ("name", "population"),
    [
        ("exact", None),
        ("leading", None),
        pytest.param("leading", math.inf, marks=pytest.mark.slow),
        pytest.param("leading of all outputs", None, marks=pytest.mark.slow),
        pytest.param("lanczos", None, marks=pytest.mark.slow),
        pytest.param("lanczos on some", None, marks=pytest.mark.slow),
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
    off = (value - EXACT.mean()) / error
    assert abs(off.mean()) < 0.5  # regression's bias is of order 1/n: well under its error
    if population:  # the 40 are a sample themselves: the error is that of the wider mean
        spread = EXACT.std(ddof=1) / math.sqrt(N)
        assert (error > 0.8 * spread).mean() > 0.9
        return
    # 150 keys count to 0.038 and 0.018; 15 examples make the error itself uncertain by a fifth, and
    # truncation counts as if it were noise, which only widens the error
    assert (np.abs(off) < 1).mean() > 0.68 - 0.12
    assert (np.abs(off) < 2).mean() > 0.95 - 0.07
    # nor are they far too wide, where noise is what makes them; the root mean square is the unbiased one
    assert np.std(value) > 0.6 * np.sqrt(np.mean(error**2))


@pytest.mark.slow
def test_auto_stays_within_its_budget_and_its_error():
    for budget in (330, 250):
        found = mean_jsv_estimate(Partial(network, HEAD), X, budget=budget, key=jax.random.key(2), batch=N)
        assert budget / 2 < found.pull_backs <= budget
        # where the rank is found the budget buys nearly everything, and rounding is what remains
        assert abs(found.value - EXACT.mean()) < 3 * found.error + 1e-5 * EXACT.mean()
        assert found.error < 0.1 * EXACT.mean()


@pytest.mark.slow
def test_enough_budget_gives_the_exact_mean():
    found = mean_jsv_estimate(Partial(network, HEAD), X, budget=N * K, key=jax.random.key(2), batch=N)
    np.testing.assert_allclose(found.value, EXACT.mean(), rtol=5e-6)  # the same values, summed in float32
    assert found.error == 0
    assert found.pull_backs == N * K


@pytest.mark.slow
def test_a_plan_finds_the_rank_and_is_the_same_for_the_same_key():
    make = partial(plan_mean_jsv, Partial(network, HEAD), X, budget=330, key=jax.random.key(3), batch=N)
    plan = make()
    assert plan.rank == FEATURES
    assert plan == make()
    assert plan.pull_backs + plan.spent - plan.pushes * plan.based_on <= 330


def test_more_outputs_than_inputs_are_taken_along_their_rank():
    head = jnp.asarray(np.random.default_rng(1).normal(size=(FEATURES, 3 * D)), jnp.float32)
    exact = np.asarray(jacobian_singular_values(Partial(network, head), X), np.float64).mean(1)
    make = partial(plan_mean_jsv, Partial(network, head), X, key=jax.random.key(3), batch=N)
    plan = make(budget=330)
    assert plan.rank == FEATURES
    assert plan.pull_backs + plan.spent - plan.pushes * plan.based_on <= 330
    found = mean_jsv_estimate(Partial(network, head), X, method=plan, key=jax.random.key(4), batch=N)
    assert abs(found.value - exact.mean()) < 3 * found.error + 1e-4 * exact.mean()
    # full rank: neither the outputs' directions nor their samples are of any use
    wide = jnp.asarray(np.random.default_rng(1).normal(size=(D, 3 * D)), jnp.float32)
    plan = plan_mean_jsv(Partial(_tanh, wide), X, key=jax.random.key(3), batch=N, budget=450)
    assert plan.rank is None
    assert plan.pushes == 0
    assert plan.spent >= N
    assert plan.pull_backs + plan.spent <= 450


def _tanh(wide, x):
    return jnp.tanh(x) @ wide


def test_what_each_setting_makes_of_a_budget():
    setting = Setting(examples=100, values=50, budget=1000)
    assert mean_plan.exact_plan(setting)[:2] == ("exact", 20)
    assert mean_plan.exact_plan(setting).pull_backs == 1000
    with_directions = setting._replace(pushes=2, based_on=30, rank=50)
    plan = mean_plan.leading_plan(with_directions, 4)
    assert plan.examples == (1000 - 400) // 46
    assert plan.pull_backs == plan.examples * 50 + (100 - plan.examples) * 4 + 60
    assert mean_plan.leading_plan(setting, 4) is None  # no directions
    assert mean_plan.leading_plan(with_directions, 8) is None  # leaves fewer than 8 exact spectra
    plan = mean_plan.lanczos_plan(setting, 4)
    assert plan[:2] == ("lanczos", 1000 // 7)
    assert plan.pull_backs == 1000 // 7 * 7


@pytest.mark.parametrize(
    ("spread", "winner"),
    [
        # examples alike, probes noisy: a few exact spectra
        (Spread(1e-4, {2: 9e-5, 4: 8e-5}, 1.0, {3: 0.0, 4: 0.0}), "exact"),
        # examples differ, and their leading directions tell how
        (Spread(1.0, {2: 0.02, 4: 0.01}, 1.0, {3: 0.0, 4: 0.0}), "leading"),
        # examples differ, leading directions tell nothing, probes are quiet
        (Spread(1.0, {2: 0.9, 4: 0.9}, 0.01, {3: 0.0, 4: 0.0}), "lanczos"),
        # so few steps would be wrong
        (Spread(1.0, {2: 0.9, 4: 0.9}, 0.01, {3: 1.0, 4: 1.0}), "exact"),
    ],
)
def test_the_default_takes_what_the_pilot_predicts_to_win(spread, winner):
    setting = Setting(examples=100, values=50, budget=1000, pushes=1, based_on=30)
    assert mean_plan.best_plan(setting, spread).method == winner


@pytest.mark.slow
def test_a_pilot_predicts_probe_noise_and_residuals_of_known_matrices():
    rng = np.random.default_rng(4)
    factors = rng.normal(size=(5, 6, 6)) * np.geomspace(3, 0.1, 6)[None, :, None]
    grams = factors @ factors.transpose(0, 2, 1)
    found = mean_plan.spread_of(jnp.asarray(grams, jnp.float32), count=6, key=jax.random.key(0))
    values = [np.linalg.svd(f, compute_uv=False) for f in factors]
    means = np.mean(values, 1)
    np.testing.assert_allclose(found.between, means.var(ddof=1), rtol=1e-3)
    easy = np.array([np.linalg.svd(f[:2], compute_uv=False).sum() for f in factors]) / 6
    _, residuals, *_ = np.polyfit(easy, means, 1, full=True)
    np.testing.assert_allclose(found.residual[2], residuals[0] / 3, rtol=1e-2)
    noise = []
    for gram in grams:
        nodes, vectors = np.linalg.eigh(gram)
        root = (vectors * np.sqrt(nodes)) @ vectors.T
        signs = np.array(list(itertools.product([-1, 1], repeat=6)))
        noise.append(np.einsum("pi,ij,pj->p", signs, root, signs).var() / 36)
    np.testing.assert_allclose(found.noise, np.mean(noise), rtol=1e-3)
    assert found.truncation[6] == 0 < found.truncation[5] < found.truncation[2]


def test_a_pilot_foresees_the_uncertainty_that_quadrature_states():
    rng = np.random.default_rng(6)
    values = np.sort(rng.uniform(size=(3, 7)) ** 3)
    probe = rng.choice([-1.0, 1.0], size=(3, 7)) / 7**0.5
    jacobian = Jacobian(
        lambda u: u * values, lambda u: u * values, 3, 7, 7, jnp.dtype("float64"), jnp.dtype("float64"), 1
    )
    with jax.enable_x64(True):
        bidiagonal = quick_jit(lambda probe: quadrature.bidiagonalise(jacobian, probe, 4))(jnp.asarray(probe))
        wanted = quick_jit(lambda b: quadrature.integrate(b, lambda s: s).uncertainty)(bidiagonal)
        before = quick_jit(lambda b: quadrature.integrate(b, lambda s: s).uncertainty)(bidiagonal[:, :3, :3])
        found = mean_plan.mean_uncertainties(values, probe, 4)
        np.testing.assert_allclose(found[2:], [before.mean(), wanted.mean()], rtol=1e-9)


@pytest.mark.parametrize("values", [100, 1000])
def test_lanczos_quadrature_gains_from_every_budget(values):
    """Spectra down to zero, the slow case: with a fixed number of steps what they miss would remain."""
    singular = np.geomspace(1, 1e-4, values)[None]
    probe = np.random.default_rng(7).choice([-1.0, 1.0], size=(20, values)) / values**0.5
    missed = mean_plan.mean_uncertainties(np.repeat(singular, 20, 0), probe, 40) / singular.mean()
    plans = [mean_plan.lanczos_plan(Setting(512, values, budget)) for budget in (300, 3000, 30_000, 300_000)]
    assert all(plan.examples >= 16 for plan in plans)
    errors = [missed[plan.steps - 1] for plan in plans]
    assert all(after < 0.7 * before for before, after in itertools.pairwise(errors))
    # a probe never takes more than an exact spectrum does
    assert mean_plan.balanced_steps(10**9, 20) == 10


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


def test_repeated_measurements_tell_noise_from_examples():
    # without noise, all examples measured: no error; with it, the noise's alone
    clean = jnp.asarray([1.0, 5.0, 9.0, 1.0, 5.0, 9.0])
    assert mean_estimate.repeated_mean(clean, 3, 3)[1] < 1e-3
    np.testing.assert_allclose(mean_estimate.repeated_mean(clean, 3, math.inf)[1], 4 / 3**0.5, rtol=1e-5)
    np.testing.assert_allclose(mean_estimate.repeated_mean(jnp.asarray([1.0, 3.0]), 1, 1), [2, 1])  # √2 / √2
    assert np.isnan(mean_estimate.repeated_mean(jnp.asarray([1.0, 3.0]), 1, 2)[1])
    with pytest.raises(ValueError, match="3 measurements of 3 examples don't show their noise"):
        mean_estimate.repeated_mean(clean[:3], 3, 3)
    rng = np.random.default_rng(5)
    truth = rng.normal(size=50) * 3
    measured = truth[np.arange(80) % 50] + rng.normal(size=(200, 80))
    run = quick_jit(jax.vmap(lambda m: mean_estimate.repeated_mean(m, 50, 50)))
    value, error = run(jnp.asarray(measured, jnp.float32))
    np.testing.assert_allclose(np.sqrt(np.mean(error**2)), np.std(np.asarray(value)), rtol=0.15)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"budget": 0}, "under the minimum"),
        ({"budget": 20, "method": "exact"}, "minimum of 24 pull-backs"),
        ({"budget": 11, "method": "lanczos"}, "minimum of 12 pull-backs"),
        ({"budget": 12, "method": "leading"}, "can't be used with 12 outputs of 14 inputs at a budget of 12"),
        ({"budget": 100, "method": "best"}, "allowed: auto, exact"),
        ({"budget": None}, "needs a budget of pull-backs, or a Plan"),
        ({"budget": math.nan}, "budget nan is not a whole number"),
        ({"budget": math.inf}, "budget inf is not a whole number"),
        ({"budget": 100.5}, "budget 100.5 is not a whole number"),
        ({"budget": 11}, "budget 11 is under the minimum of 12 pull-backs"),
        (
            {"budget": 60, "method": "leading"},
            "budget 60 is too small for method 'leading'; 427 pull-backs are enough",
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
