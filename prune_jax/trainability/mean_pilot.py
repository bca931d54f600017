"""A pilot for the mean singular value of a data set: what it takes to know which method wins."""

import jax
import jax.numpy as jnp

from prune_jax.trainability import mean_plan
from prune_jax.trainability.data_set import Measured, along, leading_rows, samples_of
from prune_jax.trainability.mean_plan import Plan, Setting
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
    over a quarter of the budget it is left out, and the plan is Lanczos quadrature, which no budget is too
    small for. The pilot's examples aren't used again: the method must not depend on the sample it is used on.
    """
    basis_key, pilot_key, probe_key = jax.random.split(key, 3)
    setting, samples = _with_directions(data, setting, basis_key)
    if method == "leading" and samples is None:
        raise ValueError(
            f"method 'leading' can't be used with {data.outputs} outputs of {data.inputs} inputs at a budget of "
            f"{setting.budget}: it takes at least {_BASIS_SHARE} pull-backs and no more outputs than inputs"
        )
    pilot = min(_EXAMPLES, setting.examples)
    taken = pilot * setting.values
    if pilot < 3 or taken > setting.budget // _SHARE:
        if method == "leading":
            raise ValueError(
                f"budget {setting.budget + setting.spent} is under the minimum of "
                f"{_SHARE * taken + setting.spent} pull-backs for method 'leading': its pilot of {pilot} exact "
                f"spectra, {setting.values} pull-backs each, may take a quarter"
            )
        return mean_plan.lanczos_plan(setting), samples
    reduced = data if samples is None else along(data, samples, setting.rank)
    rows = jax.random.permutation(pilot_key, setting.examples)[:pilot]
    jacobian = leading_rows(reduced, rows, setting.values)
    grams = jnp.einsum("kbd,lbd->bkl", jacobian, jacobian, precision="highest")
    setting = setting._replace(budget=setting.budget - taken, spent=setting.spent + taken)
    spread = mean_plan.spread_of(grams, count=data.values, key=probe_key)
    return mean_plan.best_plan(setting, spread, method), samples


def _with_directions(data: Measured, setting: Setting, key: jax.Array) -> tuple[Setting, jax.Array | None]:
    """The setting within the outputs' rank, and the samples that show it.

    More outputs than inputs are left as they are unless their rank shows: no few of them stand for the inputs.
    """
    share = setting.budget // _BASIS_SHARE
    based_on = min(data.batch, setting.examples, share)
    if not based_on:
        return setting, None
    most = min(share // based_on, -(-(data.values + _SPARE) // based_on))
    samples = jnp.zeros((0, data.outputs))
    rank, pushes = None, 0
    while rank is None and pushes < most:
        samples = jnp.concatenate([samples, samples_of(data, based_on, [pushes], key)])
        pushes += 1
        weights = output_directions(samples)[1]
        standing = int(jnp.sum(weights > _TOLERANCE * weights[0]))
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
