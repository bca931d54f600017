"""Rules that keep the largest weights: GMP, soft filter pruning, iterative hard thresholding, and a mask that stays."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.mask_rules import plans
from prune_jax.pruning.mask_rules.rule import MaskRule, MaskState, Turn
from prune_jax.pruning.mask_rules.units import (
    Kernel,
    each_kernel,
    gone_of,
    kernels_of,
    lowest_go,
    magnitudes,
    over_kernel,
    ratios_of,
)


def gmp(
    *,
    steps: int,
    epoch: int,
    ratio: float,
    layers: Sequence[str] = ("*",),
    granularity: str = "unstructured",
    distribution: str = "uniform",
    interval: int = 0,
    begin: float = 0.0,
    end: float = 0.75,
    initial: float = 0.0,
) -> MaskRule:
    """Gradual magnitude pruning: at each turn the smallest weights go, along a cubic schedule, and stay gone.

    Args:
      steps: how many steps training has.
      epoch: how many of them are an epoch.
      ratio: the fraction removed after the last turn.
      layers: patterns over layer names that choose what is pruned.
      granularity: 'unstructured' or 'filter'.
      distribution: 'uniform', ``ratio`` of each layer, or 'erk', of all of them together.
      interval: steps from turn to turn. 0: an epoch.
      begin: fraction of training before the first interval.
      end: fraction of training after which the mask stays.
      initial: the fraction that is gone from the start, in each layer as large a part of its ratio.

    Returns:
      The rule. Pruned weights are exactly 0 at every step.

    Raises:
      ValueError: an argument is outside its range, or no turn fits.

    Source: Zhu & Gupta, arXiv 1710.01878.

    Example:
      >>> gmp(steps=8, epoch=2, ratio=0.5, end=1.0).turns.tolist()
      [-1, 0, -1, 1, -1, 2, -1, 3]
    """
    if not 0 <= initial <= ratio:
        raise ValueError(f"initial is {initial}; pruning begins between 0 and ratio={ratio}")
    turns = plans.turns_in(steps, interval or epoch, begin, end)
    first = initial / ratio if ratio else 0.0
    path = np.array([first, *plans.cubic(int(turns.max()) + 1, 1.0, first)])
    return _largest(turns, path, ratio, layers, granularity, distribution, "held")


def sfp(
    *,
    steps: int,
    epoch: int,
    ratio: float,
    layers: Sequence[str] = ("*",),
    granularity: str = "filter",
    interval: int = 0,
) -> MaskRule:
    """Soft filter pruning: at each turn the filters of the smallest norms become 0, and then train on.

    Args:
      steps, epoch, layers, interval: as in ``gmp``. The last turn is at the last step where intervals divide training.
      ratio: the fraction of each layer's filters that is set to 0.
      granularity: 'filter', or 'unstructured' for single weights.

    Returns:
      The rule. Filters are exactly 0 right after a turn, and may grow back until the next.

    Raises:
      ValueError: as ``gmp``.

    Source: He et al., "Soft Filter Pruning", IJCAI 2018, arXiv 1808.06866. The norm is the Euclidean one.

    Example:
      >>> sfp(steps=4, epoch=2, ratio=0.5).between
      'free'
    """
    turns = plans.turns_in(steps, interval or epoch, 0.0, 1.0)
    _refuse_open_end(turns)
    path = np.array([0.0, *np.ones(int(turns.max()) + 1)])
    return _largest(turns, path, ratio, layers, granularity, "uniform", "free")


def iht(
    *,
    steps: int,
    epoch: int,
    ratio: float,
    layers: Sequence[str] = ("*",),
    distribution: str = "uniform",
    interval: int = 1,
) -> MaskRule:
    """Iterative hard thresholding: after each step the largest weights stay, and all others become 0.

    Args:
      steps, epoch, ratio, layers, distribution, interval: as in ``gmp``.

    Returns:
      The rule. The gradient of a weight at 0 is that of the dense network, so that it can come back.

    Raises:
      ValueError: as ``gmp``.

    Source: Blumensath & Davies, arXiv 0805.0510. For networks: Jin et al., arXiv 1607.05423.

    Example:
      >>> iht(steps=3, epoch=3, ratio=0.5).turns.tolist()
      [0, 1, 2]
    """
    turns = plans.turns_in(steps, interval or epoch, 0.0, 1.0)
    _refuse_open_end(turns)
    path = np.array([0.0, *np.ones(int(turns.max()) + 1)])
    return _largest(turns, path, ratio, layers, "unstructured", distribution, "free")


def static(
    *, steps: int, epoch: int, ratio: float, layers: Sequence[str] = ("*",), distribution: str = "erk"
) -> MaskRule:
    """A random mask that never changes: the control of every rule that trains sparse from scratch.

    Args:
      steps, ratio, layers, distribution: as in ``gmp``.
      epoch: not looked at.

    Returns:
      The rule.

    Raises:
      ValueError: as ``gmp``.

    Source: the baseline 'static' of Evci et al., arXiv 1911.11134.

    Example:
      >>> params = {"kernel": jnp.ones((4, 4))}
      >>> int(static(steps=1, epoch=1, ratio=0.75).init(params, jax.random.key(0)).mask["kernel"].sum())
      4
    """
    del epoch

    def init(params: Any, key: jax.Array) -> MaskState:
        return MaskState(random_mask(params, key, ratio, layers, distribution))

    density = constant_density(steps, ratio, layers, distribution)
    return MaskRule(
        init, lambda turn: turn.state, np.full(steps, -1, np.int32), begins_sparse=True, density=density
    )


def constant_density(
    steps: int, ratio: float, layers: Sequence[str], distribution: str
) -> Callable[[Any], dict[str, np.ndarray]]:
    """``MaskRule.density`` of a rule whose kernels keep as many weights as they begin with."""

    def density(params: Any) -> dict[str, np.ndarray]:
        kernels = kernels_of(params, layers)
        ratios = ratios_of(kernels, ratio, distribution)
        return {
            kernel.name: np.full(steps, 1.0 - gone_of(each, kernel.units) / kernel.units)
            for kernel, each in zip(kernels, ratios, strict=True)
        }

    return density


def random_mask(params: Any, key: jax.Array, ratio: float, layers: Sequence[str], distribution: str) -> Any:
    """A mask that leaves random weights of each kernel, as many as ``distribution`` says."""
    kernels = kernels_of(params, layers)
    ratios = ratios_of(kernels, ratio, distribution)

    def mask_of(number: int, kernel: Kernel, leaf: jax.Array) -> jax.Array:
        scores = jax.random.uniform(jax.random.fold_in(key, number), leaf.shape)
        return lowest_go(scores, gone_of(ratios[number], kernel.units))

    return each_kernel(params, kernels, mask_of)


def _largest(
    turns: np.ndarray,
    path: np.ndarray,
    ratio: float,
    layers: Sequence[str],
    granularity: str,
    distribution: str,
    between: str,
) -> MaskRule:
    """The rule that leaves the units of the largest magnitudes.

    ``path`` is the share of each layer's ratio that is gone: from the start, and after each turn.
    """

    def gone_along(kernels: Sequence[Kernel]) -> tuple[np.ndarray, ...]:
        ratios = [path * each for each in ratios_of(kernels, ratio, distribution)]
        return plans.counts(ratios, [kernel.units for kernel in kernels])

    def init(params: Any, key: jax.Array) -> MaskState:
        del key
        gone = gone_along(kernels_of(params, layers, granularity))
        first = [jnp.asarray(int(mine[0])) for mine in gone]
        return MaskState(masked(params, None, first), tuple(jnp.asarray(mine[1:]) for mine in gone))

    def update(turn: Turn) -> MaskState:
        gone = [mine[turn.number] for mine in turn.state.memory]
        return MaskState(masked(turn.params, turn.state.mask, gone), turn.state.memory)

    def masked(params: Any, mask: Any, gone: Sequence[jax.Array]) -> Any:
        alive = jax.tree.leaves(mask)

        def mask_of(number: int, kernel: Kernel, leaf: jax.Array) -> jax.Array:
            scores = magnitudes(leaf, kernel, granularity)
            if (
                between == "held" and alive
            ):  # what is pruned goes before other zeros, so that it never comes back
                there = magnitudes(alive[kernel.place], kernel, granularity) > 0
                scores = jnp.where(there, scores, -1.0)
            return over_kernel(lowest_go(scores, gone[number]), kernel, granularity)

        return each_kernel(params, kernels_of(params, layers, granularity), mask_of)

    def density(params: Any) -> dict[str, np.ndarray]:
        kernels = kernels_of(params, layers, granularity)
        return {
            kernel.name: plans.in_force(turns, 1.0 - mine / kernel.units, free=between == "free")
            for kernel, mine in zip(kernels, gone_along(kernels), strict=True)
        }

    gradient = "always" if between == "free" else "never"
    return MaskRule(init, update, turns, between, dense_gradient=gradient, density=density)


def _refuse_open_end(turns: np.ndarray) -> None:
    """ValueError where training goes on after the last turn, so that what was pruned would have grown back."""
    if turns[-1] < 0:
        at = np.flatnonzero(turns >= 0) + 1
        raise ValueError(
            f"interval is {int(at[0])} steps and training has {len(turns)}, so that weights would train on after the "
            "last turn and none be pruned at the end: choose an interval that divides the steps"
        )
