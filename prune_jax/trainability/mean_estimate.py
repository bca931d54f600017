"""Mean Jacobian singular value of a data set at a budget of pull-backs, with its standard error.

Two ways, of several that were tried (docs/trainability.md has the trial): exact spectra of as many random examples as
the budget buys, or exact spectra of fewer, with a regression on what a few output directions tell of all examples.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax import nearest
from prune_jax.trainability import checks
from prune_jax.trainability.operators import Estimate, check_budget
from prune_jax.trainability.passes import Apply, Passes, passes, reduced, seeds_of, wanted, whole
from prune_jax.trainability.singular_values import singular_values

METHODS = ("exact", "leading")
# Exact spectra that a pilot takes, the fewest behind a regression, and the share of a budget that a pilot may be.
_PILOT = 8
_FEWEST = 8
_SHARE = 16
# A pilot of 8 knows variances to a factor of 2: less than that is no reason to leave exact spectra.
_CLEARLY = 0.5


class Plan(NamedTuple):
    """What ``mean_jsv_estimate`` computes. All of it is static, so a function that follows a plan can be compiled.

    Attributes:
      method: 'exact' takes spectra of ``examples`` examples. 'leading' takes these too. Of all other examples it
        takes the singular values along the ``leading`` output directions that matter most, with a regression between
        the two.
      examples: how many examples have an exact spectrum.
      leading: how many output directions.
      pilot: further exact spectra that show those directions.
      pull_backs: what following the plan takes.
      spent: what making it took.

    Example:
      >>> treble, plan = Partial(jnp.multiply, 3.0), Plan("exact", examples=2)
      >>> float(mean_jsv_estimate(treble, jnp.ones((4, 1)), method=plan, key=jax.random.key(0)).value)
      3.0
    """

    method: str
    examples: int
    leading: int = 0
    pilot: int = 0
    pull_backs: int = 0
    spent: int = 0


class _Data(NamedTuple):
    """A network and the examples ``x``: an exact spectrum takes ``each`` pull-backs and has ``values`` values."""

    apply: Apply
    network: Passes
    x: jax.Array
    rows: np.ndarray
    batch: int
    each: int
    values: int


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
    """Mean over all singular values of all examples at a budget of pull-backs, with its standard error.

    The error covers the sampling of examples. Few examples make it rough itself (Student t), and one of many has
    none: NaN. With 'exact', or a plan, the function is jit-able and vmap-able.

    Args:
        apply, check: as for ``jacobians``.
        x: all n examples.
        budget: pull-backs over all of them. Exact spectra take n K, or fewer where a last linear layer has fewer
            features than outputs. Not needed with a ``Plan``. One that is given must do for it.
        key: of the examples drawn.
        method: 'exact': spectra of as many examples as the budget buys. 'leading': see ``Plan``. 'auto': exact
            spectra, and from 128 of them on the winner by a pilot. A ``Plan`` is followed as it is.
        batch: examples that go through the network together.
        population: of how many examples the mean is wanted. By default of ``x`` alone, so that examples that were all
            measured leave no error. ``math.inf``: of the distribution that they come from.

    Returns:
        An ``Estimate`` of scalars. ``pull_backs`` counts all examples together.

    Raises:
        ValueError: for bad input, weights, images or Jacobians that aren't finite (looked at outside traces), an
            unknown method, a plan that can't be followed, or a budget under the minimum.

    Example:
        >>> found = mean_jsv_estimate(Partial(jnp.multiply, 3.0), jnp.ones((4, 1)), budget=4, key=jax.random.key(0))
        >>> float(found.value), float(found.error), found.pull_backs
        (3.0, 0.0, 4)
    """
    data = _data(apply, x, batch, check)
    n = len(data.x)
    population = float(n if population is None else population)
    if not population >= n:
        raise ValueError(f"population is {population:g}, but x holds {n} examples of it")
    plan_key, key = jax.random.split(key)
    if isinstance(method, Plan):
        _check_plan(method, n, data.each)
        plan, directions, cost = method, None, cost_of(method, n, data.each)
    else:
        plan, directions = _plan_for(data, method, budget, plan_key)
        cost = plan.spent + plan.pull_backs - plan.pilot * data.each
    if budget is not None:
        check_budget(budget, cost, "the plan takes them; left to itself, method='auto' keeps to a budget")
    if plan.pilot and directions is None:
        directions = _directions(_pilot(data, plan.pilot, plan_key))
    value, error = _followed(data, plan, directions, key, population)
    if checks.known_broken(value):
        raise ValueError(f"the mean singular value came out as {value}: check the weights and the images")
    return Estimate(value, error, cost)


def plan_mean_jsv(
    apply: Apply, x: jax.Array, *, budget: int, key: jax.Array, batch: int = 32, check: bool = True
) -> Plan:
    """The plan that ``mean_jsv_estimate`` makes of a budget by 'auto'.

    Exact spectra, of all examples where the budget buys them. From a budget of 128 exact spectra on a pilot of 8
    says whether leading directions leave clearly less error. Its examples aren't used again: the method must not
    depend on the sample it is used on. A plan made once serves compiled calls on networks of this kind, for
    ``plan.pull_backs`` each. They hold a pilot of their own.

    Args:
        apply, x, budget, batch, check: as for ``mean_jsv_estimate``.
        key: of the pilot.

    Returns:
        A ``Plan``.

    Raises:
        ValueError: as ``mean_jsv_estimate``, and under ``jit`` or ``vmap`` where a pilot's numbers are hidden.

    Example:
        >>> plan_mean_jsv(Partial(jnp.multiply, 3.0), jnp.ones((4, 1)), budget=3, key=jax.random.key(0)).examples
        3
    """
    return _plan_for(_data(apply, x, batch, check), "auto", budget, key)[0]


def least_budget(examples: int, pull_backs: int) -> int:
    """The fewest pull-backs that leave a standard error: two exact spectra, or the only one."""
    return min(2, examples) * pull_backs


def cost_of(plan: Plan, examples: int, each: int) -> int:
    """Pull-backs that following ``plan`` takes on ``examples`` examples, ``each`` for an exact spectrum."""
    return (plan.examples + plan.pilot) * each + (examples - plan.examples) * plan.leading


@partial(jax.jit, static_argnames="population")
def sample_mean(values: jax.Array, population: float) -> tuple[jax.Array, jax.Array]:
    """Mean and standard error of a simple random sample (n,). NaN for one of many (Cochran 1977, section 2.5)."""
    mean, left = jnp.mean(values), max(1 / values.shape[0] - 1 / population, 0.0)
    return mean, jnp.sqrt(_variance(values) * left) if left else jnp.zeros_like(mean)


@partial(jax.jit, static_argnames="population")
def regression_mean(
    values: jax.Array, easy: jax.Array, easy_rest: jax.Array, population: float
) -> tuple[jax.Array, jax.Array]:
    """Mean of ``values``, known for a random sample, by way of ``easy`` ones that are known for all examples.

    ``values`` and ``easy``: (n,), of the sample. ``easy_rest``: (N - n,), of the other examples. A line is
    fitted on the sample and read at the mean of all N. Its bias is of order 1/n (Cochran 1977, 7.1 to 7.3).
    The error weighs each residual as the estimate does and divides it by 1 - leverage, as a jackknife does
    (HC3: MacKinnon and White 1985), since residuals grow with the Jacobian and a few examples lead the fit.
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


def _variance(values: jax.Array) -> jax.Array:
    return jnp.var(values, ddof=1) if values.shape[0] > 1 else jnp.full((), jnp.nan, values.dtype)


def _plan_for(data: _Data, method: str, budget: int | None, key: jax.Array) -> tuple[Plan, jax.Array | None]:
    """A plan, and the output directions where making it showed them."""
    n, each, pilot = len(data.x), data.each, min(_PILOT, len(data.x))
    budget = _check_method(method, budget, n, each, pilot)
    exact = Plan("exact", min(n, budget // each))
    if method == "exact" or (method == "auto" and (exact.examples == n or pilot * each > budget // _SHARE)):
        return exact._replace(pull_backs=cost_of(exact, n, each)), None
    grams = _pilot(data, pilot, key)
    if isinstance(grams, jax.core.Tracer):
        raise ValueError(
            "the best method is found by looking at numbers, which jit, vmap and grad hide: make a Plan outside, "
            "by plan_mean_jsv on like weights and images, and give it as the method inside the jit or vmap"
        )
    plan = best_plan(variances(np.asarray(grams), data.values), n, each, budget - pilot * each, method)
    plan = plan._replace(pilot=pilot if plan.leading else 0, spent=pilot * each)
    return plan._replace(pull_backs=cost_of(plan, n, each)), _directions(grams) if plan.pilot else None


def _check_method(method: str, budget: int | None, n: int, each: int, pilot: int) -> int:
    """The budget. ValueError where it doesn't do for the method, or the method can't be used."""
    if method == "lanczos":
        raise ValueError(
            "method 'lanczos' is gone, exact spectra of fewer examples won: for outputs of full rank take "
            "over_examples(mean_jsv_by_quadrature(apply, x[:n], budget=..., key=key))"
        )
    if method not in ("auto", *METHODS):
        raise ValueError(f"method is {method!r}; allowed: auto, {', '.join(METHODS)}, or a Plan")
    if budget is None:
        raise ValueError("the mean singular value needs a budget of pull-backs, or a Plan as its method")
    two = f"exact spectra take {each} an example, and an error bar two of them"
    budget = check_budget(budget, least_budget(n, each), two if n > 1 else "it is one example")
    enough = pilot * each + n + pilot * (each - 1)
    if method == "leading" and min(pilot - 1, each) < 2:
        raise ValueError(
            f"method 'leading' can't be used with {n} examples of {each} singular values each: a regression needs at "
            "least 3, and one value is the exact spectrum"
        )
    if method == "leading" and budget < enough:
        raise ValueError(
            f"budget {budget} is too small for method 'leading'; {enough} pull-backs are enough: a pilot of {pilot} "
            f"exact spectra, {each} each, one of each of {n} examples and {pilot} exact spectra more"
        )
    return budget


def best_plan(
    seen: tuple[float, dict[int, float]], examples: int, each: int, budget: int, method: str = "auto"
) -> Plan:
    """The plan that leaves the least variance by what a pilot has ``seen``. 'auto' is exact unless clearly beaten."""
    between, residual = seen
    plans = [Plan("leading", min(examples, (budget - examples * q) // (each - q)), q) for q in residual]
    plans = [plan for plan in plans if plan.examples >= min(_FEWEST, examples)]
    left = {plan: residual[plan.leading] * (1 / plan.examples - 1 / examples) for plan in plans}
    exact = Plan("exact", min(examples, budget // each))
    if method == "auto" and plans:
        rival = between * (1 / exact.examples - 1 / examples)
        return min(
            [plan for plan in plans if left[plan] < _CLEARLY * rival], key=left.__getitem__, default=exact
        )
    return min(plans, key=left.__getitem__, default=exact)


def variances(grams: np.ndarray, count: int) -> tuple[float, dict[int, float]]:
    """Of examples' means over ``count`` values: between examples, and left by a line through q leading directions.

    ``grams``: (n, r, r), Gram matrices of a pilot's Jacobians. An example is seen along the directions that the others
    show, as in the estimate itself: its own would tell more of it. A line leaves n - 2 degrees of freedom.
    """
    grams = np.asarray(grams, np.float64)
    others = [np.linalg.eigh(np.delete(grams, i, 0).mean(0))[1][:, ::-1] for i in range(len(grams))]
    along = np.stack(others).mT @ grams @ np.stack(others)
    size = along.shape[-1]

    def means(q: int) -> np.ndarray:
        return np.sqrt(np.maximum(np.linalg.eigvalsh(along[:, :q, :q]), 0.0)).sum(-1) / count

    found, residual = means(size), {}
    centred = found - found.mean()
    for q in [2**i for i in range(12) if 2**i < size]:
        easy = means(q) - means(q).mean()
        slope = (easy @ centred) / max(easy @ easy, 1e-300)
        residual[q] = float(((centred - slope * easy) ** 2).sum() / (len(found) - 2))
    return float(found.var(ddof=1)), residual


def _check_plan(plan: Plan, examples: int, each: int) -> None:
    """ValueError naming what of ``plan`` can't be followed on ``examples`` examples."""
    nearest.one_of("the plan's method", plan.method, METHODS)
    allowed = {"examples": (1, examples), "leading": (0, 0), "pilot": (0, 0)}
    if plan.method == "leading":
        allowed = {"examples": (min(3, examples), examples), "leading": (1, each - 1), "pilot": (1, examples)}
    for field, (low, high) in allowed.items():
        value = getattr(plan, field)
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or not low <= value <= high:
            between = f"{low} to {high}" if low < high else str(low) if low == high else "none"
            raise ValueError(
                f"a plan for {plan.method!r} has {field}={value!r}; allowed here: {between}: plan_mean_jsv makes plans"
            )


def _data(apply: Apply, x: jax.Array, batch: int, check: bool) -> _Data:
    """The two together, checked before any work."""
    checks.check_images(x)
    if check:
        checks.check_independent(apply, x)
    if checks.check_whole("batch", batch, " of examples") < 1:
        raise ValueError(f"batch is {batch}; at least one example goes through the network at a time")
    x, network = jnp.asarray(x), passes(apply)
    rows = wanted(network, x, None)
    checks.check_network(apply)
    if checks.known_broken(x):
        broken = checks.broken_examples(x)
        raise ValueError(
            f"{len(broken)} of {len(x)} examples of x hold NaN or infinity, first example {broken[0]}: "
            "leave them out, or check how they were normalised"
        )
    size = min(int(batch), len(x))
    each = len(seeds_of(network, jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), rows))
    return _Data(apply, network, x, rows, size, each, min(len(rows), x[0].size))


def _followed(
    data: _Data, plan: Plan, directions: jax.Array | None, key: jax.Array, population: float
) -> tuple[jax.Array, jax.Array]:
    order = jax.random.permutation(key, len(data.x))
    sample, rest = order[: plan.examples], order[plan.examples :]
    if directions is None:
        return sample_mean(_measured(data, sample, partial(_sums, None))[:, 0] / data.values, population)
    leading = directions[: plan.leading]
    exact, easy = (_measured(data, sample, partial(_sums, leading)) / data.values).T
    if not len(rest):
        return sample_mean(exact, population)
    easy_rest = _measured(data, rest, partial(_sums, None), leading)[:, 0] / data.values
    return regression_mean(exact, easy, easy_rest, population)


def _pilot(data: _Data, count: int, key: jax.Array) -> jax.Array:
    """Gram matrices of ``count`` random examples' Jacobians, (count, r, r)."""
    return _measured(data, jax.random.permutation(key, len(data.x))[:count], _grams)


def _measured(
    data: _Data, numbers: jax.Array, finish: Callable[..., jax.Array], mix: jax.Array | None = None
) -> jax.Array:
    """What ``finish`` makes of the Jacobians of the examples ``numbers``, along the seeds that ``mix`` combines."""
    rows = data.rows if mix is None else (data.rows, mix)
    pieces = [numbers[start : start + data.batch] for start in range(0, len(numbers), data.batch)]
    found = jnp.concatenate([reduced(data.network, data.x[piece], rows, finish) for piece in pieces])
    checks.check_measured(found, data.apply, "Jacobian", numbers)
    return found


@jax.jit
def _directions(grams: jax.Array) -> jax.Array:
    """Rows (r, r): orthonormal combinations of the outputs' seeds, those first that move most on average."""
    return jnp.linalg.eigh(jnp.mean(grams, 0))[1][:, ::-1].T


@jax.jit
def _sums(leading: jax.Array | None, parts: list[jax.Array], entry: jax.Array | None) -> jax.Array:
    """Sums of singular values, (batch, 1). Those along the ``leading`` combinations of seeds beside: (batch, 2)."""
    jacobian = whole(parts, entry)
    along = [] if leading is None else [jnp.tensordot(leading, jacobian, 1, precision="highest")]
    return jnp.stack([jnp.sum(singular_values(found), -1) for found in (jacobian, *along)], 1)


@jax.jit
def _grams(parts: list[jax.Array], entry: jax.Array | None) -> jax.Array:
    jacobian = checks.at_least_float32(whole(parts, entry))
    return jnp.einsum("kbd,lbd->bkl", jacobian, jacobian, precision="highest")
