"""A pilot for the mean singular value of a data set: what it takes to know which method wins."""

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.trainability import mean_plan
from prune_jax.trainability.data_set import Measured, along, leading_rows, samples_of
from prune_jax.trainability.mean_plan import Plan, Setting
from prune_jax.trainability.mean_spread import spread_of
from prune_jax.trainability.output_space import output_directions

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
