"""Rules that move a mask at a constant number of weights: SET and RigL."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.mask_rules import plans
from prune_jax.pruning.mask_rules.magnitude import constant_density, random_mask
from prune_jax.pruning.mask_rules.rule import MaskRule, MaskState, Turn
from prune_jax.pruning.mask_rules.units import Kernel, each_kernel, gone_of, kernels_of, lowest_go, ratios_of

Grow = Callable[[Turn, int, jax.Array], jax.Array]  # (turn, number of the kernel, its gradient) -> scores


def set_rule(
    *,
    steps: int,
    epoch: int,
    ratio: float,
    layers: Sequence[str] = ("*",),
    distribution: str = "erk",
    interval: int = 0,
    end: float = 1.0,
    drop: float = 0.3,
) -> MaskRule:
    """SET: at each turn the smallest living weights go, and as many random ones come in their place.

    Args:
      steps: how many steps training has.
      epoch: how many of them are an epoch.
      ratio: the fraction removed, throughout.
      layers: patterns over layer names that choose what is pruned.
      distribution: 'erk' or 'uniform'.
      interval: steps from turn to turn. 0: an epoch, as published.
      end: fraction of training. Turns lie before it, so that what comes last is trained too.
      drop: the fraction of living weights that changes places at each turn.

    Returns:
      The rule. Pruned weights are exactly 0 at every step. A weight that comes back begins at 0.

    Raises:
      ValueError: an argument is outside its range, or no turn fits.

    Source: Mocanu et al., arXiv 1707.04780, which drops positive and negative weights apart and draws new values.
    Magnitudes of both together and zeros are those of arXiv 1911.11134, so that it differs from RigL in growth alone.

    Example:
      >>> set_rule(steps=4, epoch=2, ratio=0.5).turns.tolist()
      [-1, 0, -1, -1]
    """
    turns = plans.turns_in(steps, interval or epoch, 0.0, end, before=True)
    _refuse_drop(drop)
    fractions = np.full(int(turns.max()) + 1, drop)

    def at_random(turn: Turn, number: int, gradient: jax.Array) -> jax.Array:
        return jax.random.uniform(jax.random.fold_in(turn.key, number), gradient.shape)

    return _exchanging(turns, fractions, ratio, layers, distribution, at_random)


def rigl(
    *,
    steps: int,
    epoch: int,
    ratio: float,
    layers: Sequence[str] = ("*",),
    distribution: str = "erk",
    interval: int = 100,
    end: float = 0.75,
    drop: float = 0.3,
) -> MaskRule:
    """RigL: at each turn the smallest living weights go, and those of the largest gradients come in their place.

    Args:
      steps, epoch, ratio, layers, distribution, end: as in ``set_rule``.
      interval: steps from turn to turn. 0: an epoch.
      drop: the fraction of living weights that changes places at first. It falls along a cosine to 0 at the end.

    Returns:
      The rule. A turn takes the place of the optimiser's step. A weight that comes back begins at 0. One that has just
      gone may come back at once, and then keeps its value.

    Raises:
      ValueError: as ``set_rule``.

    Source: Evci et al., "Rigging the Lottery", ICML 2020, arXiv 1911.11134, §3 and algorithm 1.

    Example:
      >>> rigl(steps=400, epoch=40, ratio=0.9).instead
      True
    """
    turns = plans.turns_in(steps, interval or epoch, 0.0, end, before=True)
    _refuse_drop(drop)

    def by_gradient(turn: Turn, number: int, gradient: jax.Array) -> jax.Array:
        del turn, number
        return jnp.abs(gradient)

    rule = _exchanging(
        turns, plans.cosine(turns, drop, plans.step_at(end, steps)), ratio, layers, distribution, by_gradient
    )
    return rule._replace(instead=True, dense_gradient="turns")


def _exchanging(
    turns: np.ndarray,
    fractions: np.ndarray,
    ratio: float,
    layers: Sequence[str],
    distribution: str,
    grow: Grow,
) -> MaskRule:
    def init(params: Any, key: jax.Array) -> MaskState:
        kernels = kernels_of(params, layers)
        ratios = ratios_of(kernels, ratio, distribution)
        alive = [k.units - gone_of(each, k.units) for k, each in zip(kernels, ratios, strict=True)]
        mask = random_mask(params, key, ratio, layers, distribution)
        return MaskState(mask, tuple(map(jnp.asarray, plans.exchanged(fractions, alive))))

    def update(turn: Turn) -> MaskState:
        kernels = kernels_of(turn.params, layers)
        gradients, masks = jax.tree.leaves(turn.gradients), jax.tree.leaves(turn.state.mask)

        def mask_of(number: int, kernel: Kernel, leaf: jax.Array) -> jax.Array:
            mask, count = masks[kernel.place], turn.state.memory[number][turn.number]
            scores = grow(turn, number, gradients[kernel.place])
            return moved(leaf, mask, scores, count)

        return MaskState(each_kernel(turn.params, kernels, mask_of), turn.state.memory)

    density = constant_density(len(turns), ratio, layers, distribution)
    return MaskRule(init, update, turns, begins_sparse=True, grows=True, density=density)


def moved(weights: jax.Array, mask: jax.Array, grow: jax.Array, count: jax.Array | int) -> jax.Array:
    """The mask after the ``count`` smallest living weights went, and as many came of those that are then gone.

    Args:
      weights: a kernel.
      mask: bools of its shape, True is alive.
      grow: scores of its shape, at least 0. The highest come. Those that have just gone may come back.
      count: how many change places.

    Returns:
      bools of the same shape, as many of them True as of ``mask``.

    Example:
      >>> weights, mask = jnp.array([0.5, -0.1, 0.0, 0.0]), jnp.array([True, True, False, False])
      >>> moved(weights, mask, jnp.array([9.0, 1.0, 2.0, 3.0]), 1).tolist()
      [True, False, False, True]
    """
    size = mask.size
    gone = size - jnp.sum(mask)
    held = lowest_go(jnp.where(mask, jnp.abs(weights), -1.0), gone + count)
    # what stays has the highest score, so that what is gone competes for the other places alone
    return lowest_go(jnp.where(held, jnp.inf, grow), gone)


def _refuse_drop(drop: float) -> None:
    if not 0 < drop < 1:
        raise ValueError(f"drop is {drop}; the fraction of living weights that changes places lies in (0, 1)")
