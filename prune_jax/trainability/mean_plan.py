"""How a budget of pull-backs is best spent on the mean singular value of a data set."""

from typing import Any, NamedTuple

import numpy as np

from prune_jax import nearest
from prune_jax.trainability import lanczos
from prune_jax.trainability.mean_spread import Spread

METHODS = ("exact", "leading", "lanczos")
_FEWEST = 8
_PROBES = 4


class Plan(NamedTuple):
    """What to compute; all of it static, so that a function that follows a plan can be compiled.

    method: 'exact': spectra of ``examples`` examples; 'leading': of these, and for all others the singular
    values along the ``leading`` output directions that matter most, with a regression between the two;
    'lanczos': stochastic Lanczos quadrature, ``examples`` probes of ``steps`` steps over the examples in turn.
    pushes: random tangents of each of ``based_on`` examples pushed forward for the output directions.
    rank: directions that stand for all outputs; None: the outputs themselves.
    pull_backs: what following the plan takes, see ``cost_of``; whoever follows it counts anew.
    spent: what making it took.
    """

    method: str
    examples: int
    leading: int = 0
    steps: int = 0
    pushes: int = 0
    based_on: int = 0
    rank: int | None = None
    pull_backs: int = 0
    spent: int = 0


class Setting(NamedTuple):
    """n examples, ``values`` directions to resolve in each, the budget left, and what the basis takes."""

    examples: int
    values: int
    budget: int
    pushes: int = 0
    based_on: int = 0
    rank: int | None = None
    spent: int = 0


def least_budget(examples: int, values: int) -> int:
    """The fewest pull-backs that leave a standard error: two exact spectra (or the only one), or four probes."""
    return min(min(2, examples) * values, least_for_lanczos(values))


def least_for_lanczos(values: int) -> int:
    """Four probes of two steps: three examples, one of them twice."""
    return _PROBES * lanczos.products_of(min(2, values))


def cost_of(plan: Plan, examples: int, values: int) -> int:
    """Products that following ``plan`` takes on ``examples`` examples of ``values`` singular values."""
    values = min(plan.rank or values, values)
    if plan.method == "lanczos":
        own = plan.examples * lanczos.products_of(plan.steps)
    else:
        own = plan.examples * (values - plan.leading) + examples * plan.leading
    return int(own + plan.pushes * plan.based_on)


def check_plan(plan: Plan, examples: int, outputs: int, inputs: int) -> None:
    """ValueError naming what of ``plan`` can't be followed on ``examples`` Jacobians (outputs, inputs)."""
    nearest.one_of("the plan's method", plan.method, METHODS)
    values = min(plan.rank or outputs, outputs, inputs)
    fewest = {"exact": 1, "leading": min(3, examples), "lanczos": 2 if examples == 1 else 3}[plan.method]
    _between(plan, "examples", fewest, None if plan.method == "lanczos" else examples)
    if plan.method == "leading":
        _between(plan, "leading", 1, values - 1)
    if plan.method == "lanczos":
        _between(plan, "steps", 1, values)
    _between(plan, "pushes", 0, None)
    _between(plan, "based_on", 1 if plan.pushes else 0, examples)
    if plan.rank is not None:
        _between(plan, "rank", 1, min(outputs, plan.pushes * plan.based_on))


def exact_plan(setting: Setting) -> Plan:
    """As many exact spectra as the budget buys; ValueError where that isn't two (or the only one)."""
    examples = min(setting.examples, setting.budget // setting.values)
    fewest = min(2, setting.examples)
    if examples < fewest:
        why = "an error bar needs two" if fewest > 1 else "there is one example"
        raise ValueError(
            f"budget {setting.budget} is under the minimum of {fewest * setting.values} "
            f"pull-backs: exact spectra take {setting.values} an example and {why}"
        )
    return _plan(setting, "exact", examples)


def leading_plan(setting: Setting, leading: int) -> Plan | None:
    """``leading`` directions of every example, the rest of the budget for exact spectra; None: too little."""
    left = setting.budget - setting.examples * leading
    examples = min(setting.examples, left // max(setting.values - leading, 1))
    if not setting.pushes or not 0 < leading < setting.values:
        return None
    if examples < min(_FEWEST, setting.examples) or examples < 3:
        return None
    return _plan(setting, "leading", examples, leading=leading)


def lanczos_plan(setting: Setting, steps: int | None = None) -> Plan:
    """Probes of ``steps`` steps (default: see ``balanced_steps``); ValueError for fewer than 4 of them."""
    if steps is None:
        steps = balanced_steps(setting.budget, setting.values)
    steps = min(steps, setting.values)
    cost = lanczos.products_of(steps)
    probes = setting.budget // cost
    if probes < _PROBES:
        raise ValueError(
            f"budget {setting.budget} is under the minimum of {_PROBES * cost} pull-backs: a probe of {steps} "
            f"Lanczos steps takes {cost} products and an error bar needs {_PROBES} of them"
        )
    return _plan(setting, "lanczos", probes, steps=steps)


def balanced_steps(budget: int, values: int) -> int:
    """Lanczos steps that grow as the cube root of the budget, from 2 on.

    Where singular values reach down to zero, what m steps miss falls about as 1/m, and the noise of B / (2m - 1)
    probes as √(m / B): their squares' sum is least at m ~ B^(1/3), and both vanish as B grows. The factor
    (B/16)^(1/3) left the least regret over seven shapes of spectra, 20 to 1,000 values, budgets to 30,000.
    Three steps are better than two once 16 probes can have them. A probe never takes more products than an
    exact spectrum, which has neither error.
    """
    growing = max(3, round((budget / 16) ** (1 / 3)))
    return max(2, min(growing, (budget // 16 + 1) // 2, (values + 1) // 2))


def plan_without_pilot(setting: Setting) -> Plan:
    """Exact spectra where they are few pull-backs each, else Lanczos quadrature.

    A probe that takes half an exact spectrum's products, or more, buys at most twice the examples and pays with
    noise: it loses unless examples differ by more than probes do. But 8 examples, or most of them, must show how
    they differ; Lanczos quadrature looks at more of them, and its error bar is the more certain one.
    """
    exact, probe = setting.budget // setting.values, lanczos_plan(setting)
    cost = lanczos.products_of(probe.steps)
    enough = exact >= min(_FEWEST, setting.examples // 2 + 1)
    if cost >= setting.values or (2 * cost >= setting.values and enough):
        return exact_plan(setting)
    return probe


def best_plan(setting: Setting, spread: Spread, method: str = "auto") -> Plan | None:
    """The plan with the smallest error that the pilot's variances predict; 'leading': of these, None: too little."""
    plans = [leading_plan(setting, q) for q in spread.residual]
    found = [plan for plan in plans if plan is not None]
    if method != "leading":
        if setting.budget >= min(2, setting.examples) * setting.values:
            found.append(exact_plan(setting))
        found += [
            lanczos_plan(setting, m)
            for m in spread.truncation
            if _PROBES * lanczos.products_of(m) <= setting.budget
        ]
    return min(found, key=lambda plan: predicted_variance(plan, setting.examples, spread), default=None)


def predicted_variance(plan: Plan, examples: int, spread: Spread) -> float:
    """Variance of the mean over ``examples`` examples that ``plan`` is expected to leave."""
    left = max(1 / plan.examples - 1 / examples, 0.0)
    if plan.method == "exact":
        return spread.between * left
    if plan.method == "leading":
        return spread.residual[plan.leading] * left
    return spread.between * left + spread.noise / plan.examples + spread.truncation[plan.steps]


def _plan(setting: Setting, method: str, examples: int, **more: int) -> Plan:
    basis = {name: getattr(setting, name) for name in ("pushes", "based_on", "rank", "spent")}
    plan = Plan(method, examples, **basis, **more)
    return plan._replace(pull_backs=cost_of(plan, setting.examples, setting.values))


def _between(plan: Plan, field: str, low: int, high: int | None) -> None:
    value: Any = getattr(plan, field)
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        allowed = f"at least {low}" if high is None else f"{low} to {high}" if low <= high else "none"
        raise ValueError(
            f"a plan for {plan.method!r} has {field}={value!r}; allowed here: {allowed}: plan_mean_jsv makes plans"
        )
