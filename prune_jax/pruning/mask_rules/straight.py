"""N:M masks under a straight-through gradient: pruned weights keep training, the network sees zeros."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.layouts.n_of_m import Pattern, pattern_of, refuse_misfit
from prune_jax.pruning.mask_rules import plans
from prune_jax.pruning.mask_rules.rule import MaskRule, MaskState, Turn
from prune_jax.pruning.mask_rules.units import Kernel, each_kernel, kernels_of


def ste(
    *, steps: int, epoch: int, granularity: str = "2:4", layers: Sequence[str] = ("*",), interval: int = 1
) -> MaskRule:
    """Straight-through N:M: the gradient at the masked weights goes to all weights, pruned ones included.

    Args:
      steps: how many steps training has.
      epoch: how many of them are an epoch.
      granularity: the pattern, such as '2:4': of each 4 weights along a kernel's inputs the 2 largest are seen.
      layers: patterns over layer names that choose what is pruned.
      interval: steps from one choice to the next. 0: an epoch.

    Returns:
      The rule. Weights that the mask prunes keep their values. What is evaluated and kept at the end has zeros there.

    Raises:
      ValueError: for a pattern that isn't one, a kernel that it doesn't fit, and where no turn fits.

    Source: Bengio et al., arXiv 1308.3432. For N:M the baseline STE of Zhou et al., arXiv 2102.04010.

    Example:
      >>> ste(steps=2, epoch=2).between
      'straight'
    """
    return sr_ste(
        steps=steps, epoch=epoch, granularity=granularity, layers=layers, interval=interval, decay=0.0
    )


def sr_ste(
    *,
    steps: int,
    epoch: int,
    granularity: str = "2:4",
    layers: Sequence[str] = ("*",),
    interval: int = 1,
    decay: float = 2e-4,
) -> MaskRule:
    """SR-STE: as ``ste``, and pruned weights decay: ``decay * w`` is added to their gradient.

    Args:
      steps, epoch, granularity, layers, interval: as in ``ste``.
      decay: lambda_W, at least 0. 2e-4 as published.

    Returns:
      The rule.

    Raises:
      ValueError: as ``ste``, and for a negative decay.

    Source: Zhou et al., "Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch", ICLR 2021, arXiv
    2102.04010, eq. (9).

    Example:
      >>> rule = sr_ste(steps=1, epoch=1, granularity="1:2")
      >>> rule.init({"kernel": jnp.array([[3.0], [-4.0]])}, jax.random.key(0)).mask["kernel"][:, 0].tolist()
      [False, True]
    """
    if decay < 0:
        raise ValueError(f"decay is {decay}; pruned weights decay, or keep their values at 0")
    pattern = pattern_of(granularity)
    turns = plans.turns_in(steps, interval or epoch, 0.0, 1.0)

    def mask_of(params: Any) -> Any:
        return each_kernel(
            params, kernels_of(params, layers), lambda _, kernel, leaf: largest_of(leaf, kernel, pattern)
        )

    def init(params: Any, key: jax.Array) -> MaskState:
        del key
        refuse_misfit(params, pattern, tuple(layers))
        return MaskState(mask_of(params))

    def update(turn: Turn) -> MaskState:
        return MaskState(mask_of(turn.params))

    def density(params: Any) -> dict[str, np.ndarray]:
        return {kernel.name: np.full(steps, pattern.n / pattern.m) for kernel in kernels_of(params, layers)}

    return MaskRule(
        init,
        update,
        turns,
        "straight",
        decay=decay,
        begins_sparse=True,
        dense_gradient="always",
        density=density,
    )


def largest_of(leaf: jax.Array, kernel: Kernel, pattern: Pattern) -> jax.Array:
    """The mask that leaves the ``n`` largest of each ``m`` weights along a kernel's inputs.

    Of equal ones the later stay.
    """
    return _largest(leaf, kernel.axes.matrices, pattern.n, pattern.m)


@partial(jax.jit, static_argnums=(1, 2, 3))
def _largest(leaf: jax.Array, matrices: tuple[int, int, int], n: int, m: int) -> jax.Array:
    positions, inputs, outputs = matrices
    lines = jnp.abs(leaf).reshape(positions, inputs // m, m, outputs)
    earlier = np.tri(m, k=-1, dtype=bool).T[None, None, :, :, None]  # [.., a, b, .]: a stands before b
    mine, other = lines[:, :, None], lines[:, :, :, None]
    goes_first = jnp.where(earlier, other <= mine, other < mine)  # the other one goes before mine
    return (goes_first.sum(2) >= m - n).reshape(leaf.shape)
