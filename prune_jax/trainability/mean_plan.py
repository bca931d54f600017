"""How a budget of pull-backs is best spent on the mean singular value of a data set."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.trainability import lanczos
from prune_jax.trainability.operators import Jacobian

METHODS = ("exact", "leading", "lanczos")
_STEPS = range(2, 9)
_FEWEST = 8


class Plan(NamedTuple):
    """What to compute; all of it static, so that a function that follows a plan can be compiled.

    method: 'exact': spectra of ``examples`` examples; 'leading': of these, and for all others the singular
    values along the ``leading`` output directions that matter most, with a regression between the two;
    'lanczos': stochastic Lanczos quadrature, ``examples`` probes of ``steps`` steps over the examples in turn.
    pushes: random tangents of each of ``based_on`` examples pushed forward for the output directions.
    rank: directions that stand for all outputs; None: the outputs themselves.
    pull_backs: what following the plan takes. spent: what making it took.
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


class Spread(NamedTuple):
    """Variances seen in a pilot, of an example's mean singular value and its estimates.

    between: between examples; residual[q]: left by regression on q leading directions; noise[m] and
    truncation[m]: of a probe of m Lanczos steps, and the square of its mean error from stopping there.
    """

    between: float
    residual: dict[int, float]
    noise: float
    truncation: dict[int, float]


def exact_plan(setting: Setting) -> Plan:
    """As many exact spectra as the budget buys; ValueError where that isn't two (or the only one)."""
    examples = min(setting.examples, setting.budget // setting.values)
    if examples < min(2, setting.examples):
        raise ValueError(
            f"budget {setting.budget} is under the minimum of {min(2, setting.examples) * setting.values} "
            f"pull-backs: exact spectra take {setting.values} an example and an error bar needs two"
        )
    return _plan(setting, "exact", examples, examples * setting.values)


def leading_plan(setting: Setting, leading: int) -> Plan | None:
    """``leading`` directions of every example, the rest of the budget for exact spectra; None: too little."""
    left = setting.budget - setting.examples * leading
    examples = min(setting.examples, left // max(setting.values - leading, 1))
    if not setting.pushes or not 0 < leading < setting.values:
        return None
    if examples < min(_FEWEST, setting.examples) or examples < 3:
        return None
    spent = setting.examples * leading + examples * (setting.values - leading)
    return _plan(setting, "leading", examples, spent, leading=leading)


def lanczos_plan(setting: Setting, steps: int | None = None) -> Plan:
    """Probes of ``steps`` steps (default: up to 6, while 16 probes remain); ValueError for fewer than 4."""
    if steps is None:
        steps = min(6, max(2, (setting.budget // 16 + 1) // 2))
    steps = min(steps, setting.values)
    cost = lanczos.products_of(steps)
    probes = setting.budget // cost
    if probes < 4:
        raise ValueError(
            f"budget {setting.budget} is under the minimum of {4 * cost} pull-backs: a probe of {steps} Lanczos "
            f"steps takes {cost} products and an error bar needs two examples with two probes each"
        )
    return _plan(setting, "lanczos", probes, probes * cost, steps=steps)


def best_plan(setting: Setting, spread: Spread, method: str = "auto") -> Plan:
    """The plan with the smallest error that the pilot's variances predict; 'leading' keeps to these."""
    plans = [leading_plan(setting, q) for q in spread.residual]
    found = [plan for plan in plans if plan is not None]
    if method == "leading" and found:
        return min(found, key=lambda plan: predicted_variance(plan, setting.examples, spread))
    if setting.budget >= min(2, setting.examples) * setting.values:
        found.append(exact_plan(setting))
    affordable = [m for m in spread.truncation if 4 * lanczos.products_of(m) <= setting.budget]
    found += [lanczos_plan(setting, m) for m in affordable]
    return min(found, key=lambda plan: predicted_variance(plan, setting.examples, spread))


def predicted_variance(plan: Plan, examples: int, spread: Spread) -> float:
    """Variance of the mean over ``examples`` examples that ``plan`` is expected to leave."""
    left = max(1 / plan.examples - 1 / examples, 0.0)
    if plan.method == "exact":
        return spread.between * left
    if plan.method == "leading":
        return spread.residual[plan.leading] * left
    return spread.between * left + spread.noise / plan.examples + spread.truncation[plan.steps]


def spread_of(grams: jax.Array, *, count: int, key: jax.Array) -> Spread:
    """Spread from the Gram matrices (n, r, r) of a pilot's Jacobians, along the output directions in order.

    ``count`` is the number of singular values that means are over. No further products are taken: leading
    blocks of a Gram matrix hold the spectrum along leading directions, and probes run on its root.
    """
    matrices = np.asarray(grams, np.float64)
    size = matrices.shape[-1]
    eigenvalues, vectors = np.linalg.eigh(matrices)
    roots = np.sqrt(np.maximum(eigenvalues, 0.0))
    mean = roots.sum(-1) / count
    residual = {}
    for q in [2**i for i in range(12) if 2**i < size]:
        block = np.linalg.eigvalsh(matrices[:, :q, :q])
        residual[q] = _left_by_line(mean, np.sqrt(np.maximum(block, 0.0)).sum(-1) / count)
    root = (vectors * roots[:, None, :]) @ vectors.mT
    # variance of zᵀ A z for random signs z: twice the squares off the diagonal
    noise = 2 * ((root**2).sum((1, 2)) - (np.diagonal(root, axis1=1, axis2=2) ** 2).sum(1))
    truncation = {}
    if size >= _STEPS[0]:
        most = min(size, _STEPS[-1])
        off = np.asarray(_truncation(jnp.asarray(root, jnp.float32), key, most=most)) * size / count
        truncation = {_STEPS[0] + i: float(u) ** 2 for i, u in enumerate(off)}
    return Spread(float(mean.var(ddof=1)), residual, float(noise.mean()) / count**2, truncation)


def _left_by_line(values: np.ndarray, easy: np.ndarray) -> float:
    easy, values = easy - easy.mean(), values - values.mean()
    slope = (easy @ values) / max(easy @ easy, 1e-300)
    return float(((values - slope * easy) ** 2).sum() / (len(values) - 2))


@partial(jax.jit, static_argnames="most")
def _truncation(root: jax.Array, key: jax.Array, most: int) -> jax.Array:
    """Mean uncertainty after each number of steps from the first of _STEPS to ``most``."""
    batch, size, _ = root.shape

    def times(u: jax.Array) -> jax.Array:
        return jnp.einsum("bij,bj->bi", root, u, precision="highest")

    probe = jax.random.rademacher(key, (batch, size), root.dtype)
    whole = lanczos.bidiagonalise(Jacobian(times, times, batch, size, size, root.dtype), probe, most)
    off = [lanczos.integrate(whole[:, :m, :m], lambda s: s).uncertainty for m in range(_STEPS[0], most + 1)]
    return jnp.mean(jnp.stack(off), 1)


def _plan(setting: Setting, method: str, examples: int, cost: int, **more: int) -> Plan:
    pushed = setting.pushes * setting.based_on
    return Plan(
        method,
        examples,
        pushes=setting.pushes,
        based_on=setting.based_on,
        rank=setting.rank,
        pull_backs=cost + pushed,
        spent=setting.spent,
        **more,
    )
