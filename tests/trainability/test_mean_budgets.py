"""The mean singular value at a budget: small budgets, plans made by hand, traces, and what isn't finite."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy import stats

from prune_jax.trainability import mean_estimate
from prune_jax.trainability.mean_estimate import Plan, mean_jsv_estimate, plan_mean_jsv

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
    return Partial(network, kernel), jax.device_put(rng.normal(size=(examples, D)).astype(np.float32))


def each_mean(apply, x):
    """Mean singular value of each example, by NumPy in float64 from JAX's own Jacobians."""
    found = jax.vmap(jax.jacobian(lambda v: apply(v[None])[0]))(x)
    return np.linalg.svd(np.asarray(found, np.float64), compute_uv=False).mean(1)


@pytest.mark.slow
@pytest.mark.parametrize(("budget", "drawn"), [(40, 5), (90, 11), (250, 31)])
def test_the_default_covers_as_often_as_so_few_examples_can(budget, drawn):
    """Student's t of the examples drawn, as the docstring says."""
    apply, x = made(8)
    plan = plan_mean_jsv(apply, x, budget=budget, key=KEY, batch=N)
    assert (plan.method, plan.examples) == ("exact", drawn)
    truth, off = each_mean(apply, x).mean(), []
    for key in jax.random.split(jax.random.key(1), 150):
        found = mean_jsv_estimate(apply, x, budget=budget, key=key, batch=N)
        assert budget / 2 < found.pull_backs <= budget
        off.append(abs(float((found.value - truth) / found.error)))
    for errors, slack in ((1, 0.12), (2, 0.07)):  # three standard deviations of 150 keys' counts
        expected = 1 - 2 * stats.t.sf(errors, drawn - 1)
        assert abs(np.mean(np.array(off) < errors) - expected) < slack


@pytest.mark.parametrize(("examples", "values"), [(1, 1), (1, 5), (2, 7), (6, 1), (6, 7), (6, 100)])
def test_the_least_budget_is_enough_and_one_less_is_refused_by_its_name(values, examples):
    apply, x = made(values, examples)
    least = mean_estimate.least_budget(examples, values)
    assert least == min(2, examples) * values
    plan = plan_mean_jsv(apply, x, budget=least, key=KEY)
    assert plan.examples >= min(2, examples)
    assert plan.pull_backs == mean_estimate.cost_of(plan, examples, values) <= least
    if least > 1:
        with pytest.raises(
            ValueError, match=f"budget {least - 1} is under the minimum of {least} pull-backs"
        ):
            plan_mean_jsv(apply, x, budget=least - 1, key=KEY)


@pytest.mark.parametrize(("examples", "outputs"), [(2, 8), (20, 1)])
def test_leading_directions_are_refused_where_there_are_none(examples, outputs):
    apply, x = made(outputs, examples)
    with pytest.raises(ValueError, match="method 'leading' can't be used with"):
        mean_jsv_estimate(apply, x, budget=examples * outputs, method="leading", key=KEY)


@pytest.mark.slow
@pytest.mark.parametrize("examples", [40, 400])
def test_the_budget_named_for_leading_directions_is_enough(examples):
    apply, x = made(8, examples)
    make = partial(mean_jsv_estimate, apply, x, method="leading", key=KEY, batch=examples)
    with pytest.raises(ValueError, match="budget 100 is too small for method 'leading'") as refused:
        make(budget=100)
    enough = int(str(refused.value).split("; ")[1].split()[0])
    # by hand: a pilot of 8 x 8, one of each example and 8 x 7 more
    assert enough == 64 + examples + 56
    found = make(budget=enough)
    assert found.pull_backs <= enough
    assert abs(found.value - each_mean(apply, x).mean()) < 6 * found.error


def test_no_budget_is_overspent_with_or_without_a_pilot():
    rng = np.random.default_rng(0)
    for examples in (1, 2, 5, 9, 40, 500):
        for values in (1, 2, 3, 5, 8, 10, 30, 400):
            residual = {2**i: float(rng.uniform()) for i in range(12) if 2**i < values}
            for budget in (2 * values, 40 * values, 100 * values, examples * values):
                plan = mean_estimate.best_plan((1.0, residual), examples, values, budget)
                assert mean_estimate.cost_of(plan, examples, values) <= max(budget, values)
                pilot = min(8, examples) if plan.leading else 0
                mean_estimate._check_plan(plan._replace(pilot=pilot), examples, values)


@pytest.mark.slow
def test_one_example_of_many_has_no_error_bar():
    apply, x = made(4, 5)
    whole = mean_jsv_estimate(apply, x[:1], budget=4, key=KEY)
    assert whole.error == 0
    np.testing.assert_allclose(whole.value, each_mean(apply, x[:1])[0], rtol=1e-5)
    one = mean_jsv_estimate(apply, x[:1], budget=4, population=math.inf, key=KEY)
    assert one.value == whole.value
    assert np.isnan(one.error)
    assert np.isnan(mean_jsv_estimate(apply, x, method=Plan("exact", 1), key=KEY).error)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan("foo", 3), "method is 'foo'; allowed: exact, leading"),
        (Plan("exact", 0), "examples=0; allowed here: 1 to 5"),
        (Plan("exact", 999), "examples=999; allowed here: 1 to 5"),
        (Plan("exact", 2.5), "examples=2.5; allowed here"),
        (Plan("exact", 2, pilot=1), "pilot=1; allowed here: 0"),
        (Plan("leading", 2, leading=1, pilot=3), "examples=2; allowed here: 3 to 5"),
        (Plan("leading", 3, pilot=3), "leading=0; allowed here: 1 to 3"),
        (Plan("leading", 3, leading=4, pilot=3), "leading=4; allowed here: 1 to 3"),
        (Plan("leading", 3, leading=2), "pilot=0; allowed here: 1 to 5"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_named(plan, message):
    with pytest.raises(ValueError, match=message):
        mean_jsv_estimate(*made(4, 5), method=plan, key=KEY)


@pytest.mark.parametrize(
    ("plan", "cost"),
    [
        (Plan("exact", 2, pull_backs=1), 2 * 4),
        pytest.param(Plan("leading", 3, leading=1, pilot=2), (3 + 2) * 4 + 2 * 1, marks=pytest.mark.slow),
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
    plan = Plan("leading", 10, leading=1, pilot=6)

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
        return mean_jsv_estimate(Partial(network, kernel), x, budget=300, method="leading", key=key).value

    def closed(kernel):
        return mean_jsv_estimate(lambda v: network(kernel, v), x, budget=300, method="leading", key=KEY).value

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
    "with a pilot": {"budget": 300, "method": "leading"},
    "leading": {"method": Plan("leading", 20, leading=2, pilot=8)},
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


def test_the_example_whose_jacobian_is_not_finite_is_named():
    _, x = made(8)
    x = x.at[17, 0].set(0.0)  # the root's slope is infinite there, its value is not
    with pytest.raises(ValueError, match="of 1 of 40 examples is not finite, first that of example 17"):
        mean_jsv_estimate(Partial(lambda v: jnp.sqrt(jnp.abs(v))), x, method=Plan("exact", 40), key=KEY)


def test_a_plan_under_jit_lets_nan_through():
    apply, x = made(8)

    def follow(kernel):
        return mean_jsv_estimate(Partial(network, kernel), x, method=Plan("exact", 6), key=KEY)[:2]

    assert np.isnan(quick_jit(follow)(apply.args[0].at[0, 0].set(jnp.nan))).all()
