"""The mean singular value at a budget: small budgets, plans made by hand, traces, and what isn't finite."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy import stats

from prune_jax.trainability import mean_plan
from prune_jax.trainability.mean_estimate import mean_jsv_estimate, plan_mean_jsv
from prune_jax.trainability.mean_plan import Plan, Setting

quick_jit = partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
KEY = jax.random.key(0)
N, D = 40, 10


def network(kernel, x):
    return jnp.tanh(x @ kernel) * jnp.linalg.norm(x, axis=1, keepdims=True)


def made(outputs, examples=N):
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.normal(size=(D, outputs)) / D**0.5, jnp.float32)
    return Partial(network, kernel), jnp.asarray(rng.normal(size=(examples, D)), jnp.float32)


def each_mean(apply, x):
    """Mean singular value of each example, by NumPy in float64 from JAX's own Jacobians."""
    found = jax.vmap(jax.jacobian(lambda v: apply(v[None])[0]))(x)
    return np.linalg.svd(np.asarray(found, np.float64), compute_uv=False).mean(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "method", "drawn"),
    [
        (90, "exact", 10),
        pytest.param(12, "lanczos", 3, marks=pytest.mark.slow),
        pytest.param(40, "lanczos", 9, marks=pytest.mark.slow),
        pytest.param(300, "leading", 23, marks=pytest.mark.slow),
    ],
)
def test_the_default_covers_as_often_as_so_few_examples_can(budget, method, drawn):
    """Student's t of the examples drawn, as the docstring says, for each method that a budget leads to."""
    apply, x = made(8)
    assert plan_mean_jsv(apply, x, budget=budget, key=KEY, batch=N).method == method
    truth, off = each_mean(apply, x).mean(), []
    for key in jax.random.split(jax.random.key(1), 150):
        found = mean_jsv_estimate(apply, x, budget=budget, key=key, batch=N)
        assert budget / 2 < found.pull_backs <= budget
        off.append(abs(float((found.value - truth) / found.error)))
    for errors, slack in ((1, 0.12), (2, 0.07)):  # three standard deviations of 150 keys' counts
        expected = 1 - 2 * stats.t.sf(errors, drawn - 1)
        assert abs(np.mean(np.array(off) < errors) - expected) < slack


@pytest.mark.parametrize("examples", [1, 2, 6])
@pytest.mark.parametrize("values", [1, 2, 5, 7, 100])
def test_the_least_budget_is_enough_and_one_less_is_refused_by_its_name(values, examples):
    """With D = 10 inputs, 100 outputs have 10 values."""
    apply, x = made(values, examples)
    resolved = min(values, D)
    least = mean_plan.least_budget(examples, resolved)
    # by hand: two exact spectra or four probes of 2 x 2 - 1 products, of one each where there is one value
    assert least == min(min(2, examples) * resolved, 12 if resolved > 1 else 4)
    plan = plan_mean_jsv(apply, x, budget=least, key=KEY)
    assert plan.examples >= min(2, examples)
    assert plan.pull_backs == mean_plan.cost_of(plan, examples, resolved) <= least
    if least > 1:
        with pytest.raises(
            ValueError, match=f"budget {least - 1} is under the minimum of {least} pull-backs"
        ):
            plan_mean_jsv(apply, x, budget=least - 1, key=KEY)


@pytest.mark.slow
def test_small_budgets_buy_exact_spectra_where_only_these_fit():
    apply, x = made(4, 5)
    for budget in (8, 11, 13):
        found = mean_jsv_estimate(apply, x, budget=budget, key=KEY)
        assert found.pull_backs <= budget
        assert found.error > 0
        assert abs(found.value - each_mean(apply, x).mean()) < 6 * found.error
    exact = mean_jsv_estimate(apply, x, budget=8, method="exact", key=KEY)
    assert mean_jsv_estimate(apply, x, budget=8, key=KEY) == exact


@pytest.mark.parametrize(("examples", "outputs"), [(2, 8), (20, 1)])
def test_leading_directions_are_refused_where_there_are_none(examples, outputs):
    apply, x = made(outputs, examples)
    with pytest.raises(ValueError, match="method 'leading' can't be used with"):
        mean_jsv_estimate(apply, x, budget=examples * outputs - 1, method="leading", key=KEY)


@pytest.mark.slow
@pytest.mark.parametrize("examples", [40, 400])
def test_the_budget_named_for_leading_directions_is_enough(examples):
    apply, x = made(8, examples)
    make = partial(mean_jsv_estimate, apply, x, method="leading", key=KEY, batch=examples)
    with pytest.raises(ValueError, match="budget 100 is too small for method 'leading'") as refused:
        make(budget=100)
    enough = int(str(refused.value).split("; ")[1].split()[0])
    # by hand: ten ninths of four pilots of 8 x 8, or of one, one of each example and 8 x 7 more
    assert enough == math.ceil(max(4 * 64, 64 + examples + 56) * 10 / 9)
    assert make(budget=enough).pull_backs <= enough


def test_no_budget_is_overspent_with_or_without_a_pilot():
    for examples in (1, 2, 5, 9, 40, 500):
        for values in (1, 2, 3, 5, 8, 10, 30, 400):
            setting = Setting(examples, values, 0)
            for budget in (12, 13, 17, 40, 100, 399, 1000, 5000):
                plan = mean_plan.plan_without_pilot(setting._replace(budget=budget))
                assert mean_plan.cost_of(plan, examples, values) == plan.pull_backs <= budget
                mean_plan.check_plan(plan, examples, values, 1000)


def test_one_example_of_many_has_no_error_bar():
    apply, x = made(4, 5)
    whole = mean_jsv_estimate(apply, x[:1], budget=4, key=KEY)
    assert whole.error == 0
    np.testing.assert_allclose(whole.value, each_mean(apply, x[:1])[0], rtol=1e-5)
    one = mean_jsv_estimate(apply, x[:1], budget=4, population=math.inf, key=KEY)
    assert one.value == whole.value
    assert np.isnan(one.error)
    assert np.isnan(mean_jsv_estimate(apply, x, method=Plan("exact", 1), key=KEY).error)


@pytest.mark.slow
def test_probes_of_a_single_example_show_their_noise():
    apply, x = made(10, 1)

    @quick_jit
    @jax.vmap
    def run(key):
        return mean_jsv_estimate(apply, x, method=Plan("lanczos", 8, steps=3), key=key)[:2]

    value, error = map(np.asarray, run(jax.random.split(KEY, 200)))
    off = np.abs(value - each_mean(apply, x)) / error
    assert 0.5 < (off < 1).mean() < 0.85  # Student's t of 8: 0.65


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan("foo", 3), "method is 'foo'; allowed: exact, leading, lanczos"),
        (Plan("exact", 0), "examples=0; allowed here: 1 to 5"),
        (Plan("exact", 999), "examples=999; allowed here: 1 to 5"),
        (Plan("exact", 2.5), "examples=2.5; allowed here"),
        (Plan("leading", 2, leading=1), "examples=2; allowed here: 3 to 5"),
        (Plan("leading", 3), "leading=0; allowed here: 1 to 3"),
        (Plan("leading", 3, leading=4), "leading=4; allowed here: 1 to 3"),
        (Plan("lanczos", 8), "steps=0; allowed here: 1 to 4"),
        (Plan("lanczos", 8, steps=5), "steps=5; allowed here: 1 to 4"),
        (Plan("lanczos", 2, steps=2), "examples=2; allowed here: at least 3"),
        (Plan("lanczos", 8, steps=2, pushes=-1), "pushes=-1; allowed here: at least 0"),
        (Plan("lanczos", 8, steps=2, pushes=1), "based_on=0; allowed here: 1 to 5"),
        (Plan("lanczos", 8, steps=2, pushes=1, based_on=6), "based_on=6; allowed here: 1 to 5"),
        (Plan("lanczos", 8, steps=2, pushes=1, based_on=2, rank=3), "rank=3; allowed here: 1 to 2"),
        (Plan("lanczos", 8, steps=2, rank=3), "rank=3; allowed here: none"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_named(plan, message):
    with pytest.raises(ValueError, match=message):
        mean_jsv_estimate(*made(4, 5), method=plan, key=KEY)


@pytest.mark.parametrize(
    ("plan", "cost"),
    [
        (Plan("exact", 2, pull_backs=1), 2 * 4),
        pytest.param(Plan("exact", 5, pushes=1, based_on=3, rank=2), 5 * 2 + 3, marks=pytest.mark.slow),
        pytest.param(
            Plan("leading", 3, leading=1, pushes=2, based_on=4), 5 * 1 + 3 * 3 + 2 * 4, marks=pytest.mark.slow
        ),
        pytest.param(
            Plan("lanczos", 6, steps=2, pushes=1, based_on=3, rank=2), 6 * 3 + 3, marks=pytest.mark.slow
        ),
    ],
)
def test_what_a_plan_takes_is_counted_not_believed(plan, cost):
    assert mean_jsv_estimate(*made(4, 5), method=plan, key=KEY).pull_backs == cost


def test_a_budget_that_a_plan_exceeds_is_refused():
    apply, x = made(4, 5)
    with pytest.raises(
        ValueError, match="budget 7 is under the minimum of 8 pull-backs: the plan takes them"
    ):
        mean_jsv_estimate(apply, x, method=Plan("exact", 2), budget=7, key=KEY)


@pytest.mark.slow
def test_a_plan_made_outside_is_followed_under_jit_and_vmap():
    apply, x = made(8)
    plan = plan_mean_jsv(apply, x, budget=24, key=KEY)
    assert plan.method == "lanczos"

    def follow(kernel):
        return mean_jsv_estimate(Partial(network, kernel), x, method=plan, key=KEY)[:2]

    kernel = apply.args[0]
    wanted = follow(kernel)
    both = quick_jit(jax.vmap(follow))(jnp.stack([kernel, 2 * kernel]))
    np.testing.assert_allclose(both[0][0], wanted[0], rtol=1e-4)


def transformations():
    apply, x = made(8)
    kernel = apply.args[0]

    def default(kernel=kernel, x=x, key=KEY):
        return mean_jsv_estimate(Partial(network, kernel), x, budget=24, key=key).value

    def closed(kernel):
        return mean_jsv_estimate(lambda v: network(kernel, v), x, budget=24, key=KEY).value

    return {
        "jit of weights": lambda: jax.jit(default)(kernel),
        "jit of nothing": lambda: jax.jit(lambda: default())(),
        "jit of images": lambda: jax.jit(lambda x: default(x=x))(x),
        "jit of a key": lambda: jax.jit(lambda key: default(key=key))(KEY),
        "jit of a closure": lambda: jax.jit(closed)(kernel),
        "vmap of weights": lambda: jax.vmap(default)(jnp.stack([kernel, kernel])),
        "vmap of a closure": lambda: jax.vmap(closed)(jnp.stack([kernel, kernel])),
        "grad": lambda: jax.grad(default)(kernel),
    }


@pytest.mark.parametrize("name", transformations())
def test_the_default_says_what_to_do_where_numbers_are_hidden(name):
    with pytest.raises(ValueError, match="make a Plan outside, by plan_mean_jsv"):
        transformations()[name]()


METHODS = {
    "exact": {"budget": 80, "method": "exact"},
    "the default, small": {"budget": 24},
    "the default, exact": {"budget": 90},
    "the default with a pilot": {"budget": 300},
    "leading": {"method": Plan("leading", 20, leading=2)},
    "lanczos": {"method": Plan("lanczos", 20, steps=2)},
}


@pytest.mark.parametrize("name", METHODS)
def test_what_is_not_finite_is_no_number(name):
    apply, x = made(8)
    broken = apply.args[0].at[0, 0].set(jnp.nan)
    with pytest.raises(ValueError, match="is not finite, first that of example"):
        mean_jsv_estimate(lambda v: network(broken, v), x, key=KEY, **METHODS[name])
    with pytest.raises(ValueError, match="holds NaN or infinity in 1 of 80 values"):
        mean_jsv_estimate(Partial(network, broken), x, key=KEY, **METHODS[name])
    with pytest.raises(ValueError, match="20 of 40 examples of x hold NaN or infinity, first example 1"):
        mean_jsv_estimate(apply, x.at[1::2].set(jnp.nan), key=KEY, **METHODS[name])


@pytest.mark.parametrize(
    "plan", [pytest.param(Plan("exact", 40), marks=pytest.mark.slow), Plan("lanczos", 60, steps=2)]
)
def test_the_example_whose_jacobian_is_not_finite_is_named(plan):
    _, x = made(8)
    x = x.at[17, 0].set(0.0)  # the root's slope is infinite there, its value is not
    with pytest.raises(
        ValueError, match="of 1 of the 40 examples measured is not finite, first that of example 17"
    ):
        mean_jsv_estimate(Partial(lambda v: jnp.sqrt(jnp.abs(v))), x, method=plan, key=KEY, batch=N)


def test_a_plan_under_jit_lets_nan_through():
    apply, x = made(8)

    def follow(kernel):
        return mean_jsv_estimate(Partial(network, kernel), x, method=Plan("lanczos", 6, steps=2), key=KEY)[:2]

    assert np.isnan(quick_jit(follow)(apply.args[0].at[0, 0].set(jnp.nan))).all()
