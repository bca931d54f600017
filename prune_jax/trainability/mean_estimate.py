"""Mean Jacobian singular value of a data set at a budget of pull-backs, with its standard error."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.trainability import mean_plan, quadrature
from prune_jax.trainability.checks import known_broken
from prune_jax.trainability.data_set import (
    Measured,
    along,
    batches,
    jacobian_at,
    leading_rows,
    means,
    measured,
    output_directions,
    refuse_not_finite,
    samples_of,
)
from prune_jax.trainability.mean_plan import Plan, Setting, spread_of
from prune_jax.trainability.operators import Apply, Estimate, check_budget

# Means over a population of examples from a sample of it, and their standard errors; knows no network.
#
# ``population`` is the number of examples that the mean is about: the n examples given, or more, of which these
# are a random sample (``math.inf``: all that the distribution can give).


Found = tuple[jax.Array, jax.Array]


def sample_mean(values: jax.Array, population: float) -> Found:
    """Mean and standard error of a simple random sample (n,); NaN for one of many, which has no spread.

    Cochran 1977, Sampling Techniques, 2.5: a sample of the whole population has error 0.
    """
    mean, left = jnp.mean(values), max(1 / values.shape[0] - 1 / population, 0.0)
    return mean, jnp.sqrt(_variance(values) * left) if left else jnp.zeros_like(mean)


def regression_mean(values: jax.Array, easy: jax.Array, easy_rest: jax.Array, population: float) -> Found:
    """Mean of ``values``, known for a random sample, by way of ``easy`` ones that are known for all examples.

    ``values`` and ``easy``: (n,), of the sample; ``easy_rest``: (N - n,), of the other examples. A line is
    fitted on the sample and read at the mean of all N; its bias is of order 1/n (Cochran 1977, 7.1 to 7.3).
    The error weighs each residual as the estimate does and divides it by 1 - leverage, as a jackknife does
    (HC3: MacKinnon and White 1985), since residuals grow with the Jacobian and a few examples lead the fit.
    Raises ValueError for n < 3: a line through two points leaves no residuals to judge it by.
    """
    n, examples = values.shape[0], easy.shape[0] + easy_rest.shape[0]
    if n < 3:
        raise ValueError(f"a regression on {n} examples has no error bar; it needs at least 3")
    centred = easy - jnp.mean(easy)
    spread = jnp.sum(centred**2)
    per_spread = jnp.where(spread > 0, 1 / jnp.where(spread > 0, spread, 1.0), 0.0)
    slope = jnp.sum(centred * values) * per_spread
    step = (jnp.sum(easy) + jnp.sum(easy_rest)) / examples - jnp.mean(easy)
    leverage = jnp.minimum(1 / n + centred**2 * per_spread, 1 - 1e-3)
    residuals = (values - jnp.mean(values) - slope * centred) / (1 - leverage)
    weights = 1 / n + centred * step * per_spread
    variance = max(1 - n / examples, 0.0) * jnp.sum((weights * residuals) ** 2)
    beyond = jnp.sum(residuals**2) / n + slope**2 * _variance(jnp.concatenate([easy, easy_rest]))
    variance = variance + beyond * max(1 / examples - 1 / population, 0.0)
    return jnp.mean(values) + slope * step, jnp.sqrt(variance)


def repeated_mean(measured: jax.Array, examples: int, population: float) -> Found:
    """Mean over ``examples`` that were each measured with noise, measurement j being of example j mod examples.

    The measurements' spread within an example is the noise; the rest of the spread between examples alone
    shrinks with the finite population. The error is NaN for one example of many, which has no spread.
    Raises ValueError where no example was measured twice.
    """
    if measured.shape[0] <= examples:
        raise ValueError(
            f"{measured.shape[0]} measurements of {examples} examples don't show their noise; it takes one more"
        )
    which = jnp.arange(measured.shape[0]) % examples
    times = jnp.zeros(examples, measured.dtype).at[which].add(1)
    each = jnp.zeros(examples, measured.dtype).at[which].add(measured) / times
    noise = jnp.sum((measured - each[which]) ** 2) / (measured.shape[0] - examples)
    if examples == population == 1:
        return jnp.mean(each), jnp.sqrt(noise / times[0])
    total = _variance(each)
    between = jnp.maximum(total - noise * jnp.mean(1 / times), 0.0)
    return jnp.mean(each), jnp.sqrt(jnp.maximum(total / examples - between / population, 0.0))


def _variance(values: jax.Array) -> jax.Array:
    return jnp.var(values, ddof=1) if values.shape[0] > 1 else jnp.full((), jnp.nan, values.dtype)


# A pilot for the mean singular value of a data set: what it takes to know which method wins.


_EXAMPLES = 8
_SHARE = 4
_BASIS_SHARE = 10
_SPARE = 8
_TOLERANCE = 1e-4


def measured_plan(
    data: Measured, setting: Setting, method: str, key: jax.Array
) -> tuple[Plan, jax.Array | None]:
    """The plan of least predicted error among those of ``method`` ('auto': all), and the samples it rests on.

    Random tangents are pushed forward until the rank of the outputs shows, for a tenth of the budget at most;
    then the exact spectra of 8 examples along those directions predict what each method would leave: variance
    between examples, residuals on leading directions, probe noise and truncation. Where this pilot would take
    over a quarter of the budget it is left out, see ``plan_without_pilot``. The pilot's examples aren't used
    again: the method must not depend on the sample it is used on. The budget must do for Lanczos quadrature.
    """
    basis_key, pilot_key, probe_key = jax.random.split(key, 3)
    given = setting.budget
    setting, samples = _with_directions(data, setting, basis_key)
    if method == "leading" and samples is None:
        raise ValueError(
            f"method 'leading' can't be used with {data.outputs} outputs of {data.inputs} inputs at a budget of "
            f"{given}: it takes more pull-backs than the {mean_plan.least_for_lanczos(data.values)} of Lanczos "
            f"quadrature, {_BASIS_SHARE} at least, and outputs of lower rank than the inputs, or fewer"
        )
    pilot = min(_EXAMPLES, setting.examples)
    taken = pilot * setting.values
    if pilot < 3 or taken > setting.budget // _SHARE:
        if method == "leading":
            raise ValueError(_too_little_for_leading(given, setting))
        return mean_plan.plan_without_pilot(setting), samples
    reduced = data if samples is None else along(data, samples, setting.rank)
    rows = jax.random.permutation(pilot_key, setting.examples)[:pilot]
    jacobian = leading_rows(reduced, rows, setting.values)
    grams = _seen(jnp.einsum("kbd,lbd->bkl", jacobian, jacobian, precision="highest"))
    setting = setting._replace(budget=setting.budget - taken, spent=setting.spent + taken)
    plan = mean_plan.best_plan(setting, spread_of(grams, count=data.values, key=probe_key), method)
    if plan is None:
        raise ValueError(_too_little_for_leading(given, setting))
    return plan, samples


def _with_directions(data: Measured, setting: Setting, key: jax.Array) -> tuple[Setting, jax.Array | None]:
    """The setting within the outputs' rank, and the samples that show it.

    More outputs than inputs are left as they are unless their rank shows: no few of them stand for the inputs.
    """
    share = min(setting.budget // _BASIS_SHARE, setting.budget - mean_plan.least_for_lanczos(setting.values))
    based_on = min(data.batch, setting.examples, share)
    if based_on < 1:
        return setting, None
    most = min(share // based_on, -(-(data.values + _SPARE) // based_on))
    samples = jnp.zeros((0, data.outputs))
    rank, pushes = None, 0
    while rank is None and pushes < most:
        samples = jnp.concatenate([samples, jnp.asarray(_seen(samples_of(data, based_on, [pushes], key)))])
        pushes += 1
        weights = np.asarray(output_directions(samples)[1])
        standing = int(np.sum(weights > _TOLERANCE * weights[0]))
        if 0 < standing <= min(samples.shape[0] - _SPARE, data.values - 1):
            rank = standing
    taken = pushes * based_on
    if rank is None and data.outputs > data.inputs:
        return setting._replace(budget=setting.budget - taken, spent=taken), None
    setting = setting._replace(
        values=rank or setting.values,
        budget=setting.budget - taken,
        pushes=pushes,
        based_on=based_on,
        rank=rank,
        spent=taken,
    )
    return setting, samples


def _too_little_for_leading(budget: int, setting: Setting) -> str:
    """Why, and a budget that is enough, whatever share of it the directions take."""
    examples, values, pilot = setting.examples, setting.values, min(_EXAMPLES, setting.examples)
    if pilot < 3:
        return f"method 'leading' can't be used with {pilot} examples: a regression needs at least 3"
    if values < 2:
        return "method 'leading' can't be used with one singular value of each example: that is the exact spectrum"
    left = max(_SHARE * pilot * values, pilot * values + examples + pilot * (values - 1))
    return (
        f"budget {budget} is too small for method 'leading'; {-(-left * _BASIS_SHARE // (_BASIS_SHARE - 1))} "
        f"pull-backs are enough: up to a tenth for the directions, of the rest a quarter at most for a pilot of "
        f"{pilot} exact spectra, {values} each, then one of each of {examples} examples and {pilot} exact spectra more"
    )


def _seen(array: jax.Array) -> np.ndarray:
    """The numbers on the host; ValueError for those that a trace hides."""
    if isinstance(array, jax.core.Tracer):
        raise ValueError(
            "the best method is found by looking at numbers, which jit, vmap and grad hide: make a Plan outside, "
            "by plan_mean_jsv on like weights and images, and give it as the method inside the jit or vmap"
        )
    return np.asarray(array)


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


def _exact(data: Measured, plan: Plan, key: jax.Array, population: float) -> Found:
    rows = jax.random.permutation(key, data.x.shape[0])[: plan.examples]
    (values,) = means(data, rows, [min(data.outputs, data.inputs)])
    return sample_mean(values, population)


def _leading(data: Measured, plan: Plan, key: jax.Array, population: float) -> Found:
    order = jax.random.permutation(key, data.x.shape[0])
    values, easy = means(data, order[: plan.examples], [min(data.outputs, data.inputs), plan.leading])
    if plan.examples == order.shape[0]:
        return sample_mean(values, population)
    (rest,) = means(data, order[plan.examples :], [plan.leading])
    return regression_mean(values, easy, rest, population)


def _lanczos(data: Measured, plan: Plan, key: jax.Array, population: float) -> Found:
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
        bidiagonal = quadrature.bidiagonalise(jacobian, probe, plan.steps)
        integral = _mean_of_values(bidiagonal, plan.steps == jacobian.small)
        found.append(jnp.concatenate(integral, 0) * (jacobian.small / data.values))
    values, uncertainty = jnp.concatenate(found, 1)
    refuse_not_finite(values, rows)
    value, error = repeated_mean(values, drawn, population)
    return value, jnp.hypot(error, jnp.mean(uncertainty))


@partial(jax.jit, static_argnames="complete")
def _mean_of_values(bidiagonal: jax.Array, complete: bool) -> quadrature.Integral:
    return quadrature.integrate(bidiagonal, lambda s: s, complete=complete)
