"""Mean Jacobian singular value of a data set at a budget of pull-backs, with its standard error."""

from functools import partial

import jax
import jax.numpy as jnp

from prune_jax.trainability import lanczos, mean_plan, survey
from prune_jax.trainability.data_set import (
    Measured,
    along,
    batches,
    jacobian_at,
    means,
    measured,
    refuse_not_finite,
    samples_of,
)
from prune_jax.trainability.mean_pilot import measured_plan
from prune_jax.trainability.mean_plan import Plan, Setting
from prune_jax.trainability.operators import Apply, Estimate, check_budget
from prune_jax.trainability.weights import known_broken


def mean_jsv_estimate(
    apply: Apply,
    x: jax.Array,
    *,
    budget: int | None = None,
    key: jax.Array,
    method: str | Plan = "auto",
    batch: int = 32,
    population: float | None = None,
    check: bool = True,
) -> Estimate:
    """Mean over the min(K, D) singular values of all ``x``'s examples, its standard error and cost: scalars.

    ``budget``: Jacobian products over all n examples (exact spectra take n K; a push-forward counts as a
    pull-back, forward passes don't count). ``method``: 'exact' on fewer examples, 'leading', 'lanczos' (see
    ``Plan``), or 'auto': the winner by a pilot, see ``plan_mean_jsv``. A ``Plan`` is followed as it is, without
    a budget (one that is given must do for it); then, and with 'exact' and 'lanczos', the function is jit-able
    and vmap-able. The error covers probe noise and the sampling of examples; few examples make it rough itself
    (Student t, a degree of freedom less than examples drawn: of four, 0.61 and 0.86 of the means lie within one
    and two errors), and one of many has none: NaN. ``population``: of how many examples the mean is wanted
    (default: of ``x`` alone, so that examples that were all measured leave no error; ``math.inf``: of the
    distribution that they come from). ``batch`` examples go through the network together. ``apply`` as for
    ``jacobian_of``. Raises ValueError for bad input, weights, images or Jacobians that aren't finite (looked at
    outside traces), an unknown method, a plan that can't be followed, or a budget under the minimum.
    """
    data = measured(apply, x, batch, check)
    n = data.x.shape[0]
    population = float(n if population is None else population)
    if not population >= n:
        raise ValueError(f"population is {population:g}, but x holds {n} examples of it")
    plan_key, basis_key, key = jax.random.split(key, 3)
    if isinstance(method, Plan):
        plan, spared, samples = method, 0, None
        mean_plan.check_plan(plan, n, data.outputs, data.inputs)
    else:
        plan, samples = _plan_for(data, method, budget, plan_key)
        spared = plan.spent - (0 if samples is None else samples.shape[0])
    cost = mean_plan.cost_of(plan, n, data.values) + spared
    if budget is not None:
        check_budget(budget, cost, "the plan takes them; left to itself, method='auto' keeps to a budget")
    if plan.pushes:
        if samples is None:
            samples = samples_of(data, plan.based_on, range(plan.pushes), basis_key)
        data = along(data, samples, plan.rank)
    follow = {"exact": _exact, "leading": _leading, "lanczos": _lanczos}[plan.method]
    value, error = follow(data, plan, key, population)
    if known_broken(value):
        raise ValueError(f"the mean singular value came out as {value}: check the weights and the images")
    return Estimate(value, error, cost)


def plan_mean_jsv(
    apply: Apply, x: jax.Array, *, budget: int, key: jax.Array, batch: int = 32, check: bool = True
) -> Plan:
    """The plan of least predicted error that, made and followed at once as 'auto' does, fits ``budget``.

    Followed apart it takes its ``pushes`` again. Exact spectra of all examples where the budget buys them;
    else by a pilot, see ``measured_plan``. Looks at numbers, thus not under ``jit`` or ``vmap``; a plan made
    once serves compiled calls on networks of this kind, for ``plan.pull_backs`` each. Arguments and errors as
    ``mean_jsv_estimate``.
    """
    return _plan_for(measured(apply, x, batch, check), "auto", budget, key)[0]


def _plan_for(
    data: Measured, method: str, budget: int | None, key: jax.Array
) -> tuple[Plan, jax.Array | None]:
    """A plan, and the samples behind its output directions where making it took them."""
    if method not in ("auto", *mean_plan.METHODS):
        raise ValueError(f"method is {method!r}; allowed: auto, {', '.join(mean_plan.METHODS)}, or a Plan")
    if budget is None:
        raise ValueError("the mean singular value needs a budget of pull-backs, or a Plan as its method")
    n, values = data.x.shape[0], data.values
    least, probes = mean_plan.least_budget(n, values), mean_plan.least_for_lanczos(values)
    if method in ("exact", "lanczos"):
        least = 1  # the plan itself says what it takes
    why = f"exact spectra take {values} an example, two for an error bar if there are two, and Lanczos probes {probes}"
    setting = Setting(n, values, check_budget(budget, least, why))
    if method == "exact" or setting.budget >= n * values:
        return mean_plan.exact_plan(setting), None
    if method == "lanczos":
        return mean_plan.lanczos_plan(setting), None
    if method == "auto" and setting.budget < probes:
        return mean_plan.exact_plan(setting), None
    return measured_plan(data, setting, method, key)


def _exact(data: Measured, plan: Plan, key: jax.Array, population: float) -> survey.Found:
    rows = jax.random.permutation(key, data.x.shape[0])[: plan.examples]
    (values,) = means(data, rows, [min(data.outputs, data.inputs)])
    return survey.sample_mean(values, population)


def _leading(data: Measured, plan: Plan, key: jax.Array, population: float) -> survey.Found:
    order = jax.random.permutation(key, data.x.shape[0])
    values, easy = means(data, order[: plan.examples], [min(data.outputs, data.inputs), plan.leading])
    if plan.examples == order.shape[0]:
        return survey.sample_mean(values, population)
    (rest,) = means(data, order[plan.examples :], [plan.leading])
    return survey.regression_mean(values, easy, rest, population)


def _lanczos(data: Measured, plan: Plan, key: jax.Array, population: float) -> survey.Found:
    """Probe j goes to example j mod m of the m drawn; some get two, so that their noise shows."""
    n = data.x.shape[0]
    drawn = min(n, max(2, plan.examples - max(1, min(16, plan.examples // 4))))
    order_key, probe_key = jax.random.split(key)
    order = jax.random.permutation(order_key, n)[:drawn]
    rows = order[jnp.arange(plan.examples) % drawn]
    found = []
    for number, piece in enumerate(batches(data, rows)):
        jacobian = jacobian_at(data, piece)
        shape = (1, jacobian.batch, jacobian.small)
        probe = jax.random.rademacher(jax.random.fold_in(probe_key, number), shape, jacobian.dtype)
        bidiagonal = lanczos.bidiagonalise(jacobian, probe, plan.steps)
        integral = _mean_of_values(bidiagonal, plan.steps == jacobian.small)
        found.append(jnp.concatenate(integral, 0) * (jacobian.small / data.values))
    values, uncertainty = jnp.concatenate(found, 1)
    refuse_not_finite(values, rows)
    value, error = survey.repeated_mean(values, drawn, population)
    return value, jnp.hypot(error, jnp.mean(uncertainty))


@partial(jax.jit, static_argnames="complete")
def _mean_of_values(bidiagonal: jax.Array, complete: bool) -> lanczos.Integral:
    return lanczos.integrate(bidiagonal, lambda s: s, complete=complete)
