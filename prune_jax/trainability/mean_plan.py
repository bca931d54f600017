"""How a budget of pull-backs is best spent on the mean singular value of a data set."""

from typing import Any, NamedTuple

import jax
import numpy as np

from prune_jax import nearest
from prune_jax.trainability import quadrature

# What a pilot's exact spectra tell of the error that each method would leave; NumPy float64 on the host.


_MOST_STEPS = 32


class Spread(NamedTuple):
    """Variances seen in a pilot, of an example's mean singular value and its estimates.

    between: between examples; residual[q]: left by regression on q leading directions; noise and truncation[m]:
    of a probe, and the square of its mean error from stopping after m Lanczos steps.
    """

    between: float
    residual: dict[int, float]
    noise: float
    truncation: dict[int, float]


def spread_of(grams: jax.Array | np.ndarray, *, count: int, key: jax.Array) -> Spread:
    """Spread from the Gram matrices (n, r, r) of a pilot's Jacobians, along the output directions in order.

    ``count`` is the number of singular values that means are over. No further products are taken: leading
    blocks of a Gram matrix hold the spectrum along leading directions, and a probe of random signs, ``key``'s,
    meets each singular value with the weight that its eigenvector gives it.
    """
    matrices = np.asarray(grams, np.float64)
    size = matrices.shape[-1]
    eigenvalues, vectors = np.linalg.eigh(matrices)
    values = np.sqrt(np.maximum(eigenvalues, 0.0))
    mean = values.sum(-1) / count
    residual = {}
    for q in [2**i for i in range(12) if 2**i < size]:
        block = np.linalg.eigvalsh(matrices[:, :q, :q])
        residual[q] = _left_by_line(mean, np.sqrt(np.maximum(block, 0.0)).sum(-1) / count)
    root = (vectors * values[:, None, :]) @ vectors.mT
    # variance of zᵀ A z for random signs z: twice the squares off the diagonal
    noise = 2 * ((root**2).sum((1, 2)) - (np.diagonal(root, axis1=1, axis2=2) ** 2).sum(1))
    signs = np.asarray(jax.random.rademacher(key, (len(matrices), size)), np.float64)
    probe = np.einsum("nri,nr->ni", vectors, signs) / size**0.5
    off = mean_uncertainties(values, probe, min(size, _MOST_STEPS)) * size / count
    truncation = {m: float(off[m - 1]) ** 2 for m in range(2, len(off) + 1)}
    return Spread(float(mean.var(ddof=1)), residual, float(noise.mean()) / count**2, truncation)


def mean_uncertainties(values: np.ndarray, probe: np.ndarray, most: int) -> np.ndarray:
    """Mean over examples of ``quadrature.integrate``'s uncertainty after 1 to ``most`` steps, (most,).

    ``values`` and ``probe``: (n, r), singular values and a unit probe along their vectors. The same recurrence
    and rule as there, but of numbers that are known already, in a loop that needn't be compiled.
    """
    bidiagonal = _bidiagonal(values, probe, most)
    gauss = np.array([_rule(bidiagonal[:, :m, :m]) for m in range(1, most + 1)])
    radau = np.array([_rule(bidiagonal[:, :m, : m - 1]) for m in range(1, most + 1)])
    moved, radau_moved = (np.abs(np.diff(rule, axis=0)) for rule in (gauss, radau))
    both = moved + radau_moved
    share = np.where(both > 0, moved / np.where(both > 0, both, 1.0), 0.5)
    share = np.concatenate([np.full((1, len(values)), 0.5), share])
    off = np.mean(np.minimum(share, 1 - share) * np.abs(gauss - radau), 1) / 3**0.5
    if most == values.shape[1]:
        off[-1] = 0.0  # the whole Krylov space
    return off


def _left_by_line(values: np.ndarray, easy: np.ndarray) -> float:
    easy, values = easy - easy.mean(), values - values.mean()
    slope = (easy @ values) / max(easy @ easy, 1e-300)
    return float(((values - slope * easy) ** 2).sum() / (len(values) - 2))


def _bidiagonal(values: np.ndarray, u: np.ndarray, steps: int) -> np.ndarray:
    """As ``quadrature.bidiagonalise``, of the diagonal matrices with these ``values``: (n, steps, steps)."""
    found = np.zeros((len(values), steps, steps))
    basis, rest = [u], values * u
    for step in range(steps):
        v, alpha = _normalised(rest, values)
        found[:, step, step] = alpha[:, 0]
        if step + 1 == steps:
            break
        rest = values * v - alpha * u
        for _ in range(2):
            rest = rest - sum(b * np.sum(b * rest, 1, keepdims=True) for b in basis)
        u, beta = _normalised(rest, values)
        basis.append(u)
        found[:, step + 1, step] = beta[:, 0]
        rest = values * u - beta * v
    return found


def _normalised(vector: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vector and norm, both 0 where the norm is rounding: the Krylov space is exhausted there."""
    norm = np.linalg.norm(vector, axis=1, keepdims=True)
    norm = np.where(norm > 1e-14 * values.max(1, keepdims=True), norm, 0.0)
    return vector / np.where(norm > 0, norm, 1.0) * (norm > 0), norm


def _rule(matrix: np.ndarray) -> np.ndarray:
    left, nodes, _ = np.linalg.svd(matrix)
    return (left[:, 0, : nodes.shape[1]] ** 2 * nodes).sum(1)


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
    return _PROBES * quadrature.products_of(min(2, values))


def cost_of(plan: Plan, examples: int, values: int) -> int:
    """Products that following ``plan`` takes on ``examples`` examples of ``values`` singular values."""
    values = min(plan.rank or values, values)
    if plan.method == "lanczos":
        own = plan.examples * quadrature.products_of(plan.steps)
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
    cost = quadrature.products_of(steps)
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
    cost = quadrature.products_of(probe.steps)
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
            if _PROBES * quadrature.products_of(m) <= setting.budget
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
