"""TPP: while doomed channels shrink, they are decorrelated from all others, so that the cut keeps trainability.

Source: Wang & Fu, Trainability Preserving Neural Pruning, ICLR 2023, arXiv 2207.12534, and its companion code.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from prune_jax.pruning.jaxpr.groups import Group, Slice
from prune_jax.pruning.regularizers.channels import (
    lowest,
    mean_magnitudes,
    slices_of,
    squared_norms,
    vectors_of,
    weighed,
    wide,
)
from prune_jax.pruning.regularizers.growth import NEVER, halves, refuse_below, rises_to
from prune_jax.pruning.regularizers.penalty import Leaves, Penalty


class DecorrelationState(NamedTuple):
    """Where TPP stands.

    Attributes:
      doomed: group name -> which channels are to go, bool (size,).
      growth: the strength now, float32.
      taken: steps that were taken, int32.
    """

    doomed: dict[str, jax.Array]
    growth: jax.Array
    taken: jax.Array


def tpp(
    groups: Sequence[Group],
    gone: Mapping[str, int],
    *,
    strength: float = 1000.0,
    step: float = 1e-4,
    every: int = 5,
    limit: float = 1.0,
    hold: int = 40000,
) -> Penalty:
    """TPP: the Gram entries of doomed channels go to 0, and so do their weights, biases and norms' parameters.

    With the rows w of a producer, one for each output, S its doomed outputs and n their whole number, the penalty of
    a group is  g c / n^2 * (sum of (w_i . w_j)^2 over all pairs with i or j in S)  +  g / 2 * (sum of squares of w_i
    and of i's biases, scales and shifts, over i in S). The growth g is ``step`` times the number of whole ``every``
    steps taken, up to ``limit``.

    Args:
      groups: coupled groups that can be pruned.
      gone: group name -> how many channels are to go, those of lowest L1 norm at the start.
      strength: c, the weight of decorrelation.
      step: by how much g rises.
      every: steps between two rises. The companion code takes 5 for ImageNet, 10 for CIFAR.
      limit: of g.
      hold: steps that g is held for at its limit. 40000 for ImageNet, 10000 for CIFAR. In this time the companion code
        also sets the doomed channels to zero, layer by layer. Here the cut that follows does so at once.

    Returns:
      The penalty.

    Raises:
      ValueError: a number outside its range. From ``init``, a group that no kernel makes.
    """
    refuse_below(0, strength=strength, step=step, limit=limit, hold=hold)
    refuse_below(1, every=every)
    mine = [group for group in groups if gone.get(group.name, 0)]
    ends = min(NEVER, rises_to(limit, step) * every + int(hold))

    def init(leaves: Leaves) -> DecorrelationState:
        _refuse_vectors(mine, leaves)
        doomed = {g.name: lowest(mean_magnitudes(leaves, g), gone[g.name]) for g in mine}
        return DecorrelationState(doomed, jnp.zeros(()), jnp.zeros((), jnp.int32))

    def advance(state: DecorrelationState, leaves: Leaves, count: jax.Array) -> DecorrelationState:
        growth = jnp.minimum(step * (count // every), limit).astype(jnp.float32)
        return DecorrelationState(state.doomed, growth, count + 1)

    def value(state: DecorrelationState, leaves: Leaves) -> jax.Array:
        total = jnp.zeros(())
        for group in mine:
            doomed = state.doomed[group.name]
            total += strength * decorrelation(leaves, group.producer, doomed)
            total += halves([doomed * squared_norms(leaves, _shrunk(group, leaves), group.size)])
        return state.growth * total

    def gradient(state: DecorrelationState, leaves: Leaves) -> dict[str, jax.Array]:
        doomed = {g.name: state.growth * state.doomed[g.name] for g in mine}
        out = weighed(leaves, [(of, doomed[g.name]) for g in mine for of in _shrunk(g, leaves)])
        for group in mine:
            slope = _slope(leaves, group.producer, state.doomed[group.name])
            out[group.producer.path] += state.growth * strength * slope
        return out

    return Penalty(groups, init, advance, value, gradient, done=lambda state: state.taken >= ends)


def decorrelation(leaves: Leaves, producer: Slice, doomed: jax.Array) -> jax.Array:
    """1 / n^2 times the sum of squared Gram entries that a doomed output has part in.

    Args:
      leaves: leaf name -> array.
      producer: the n outputs, an axis of a kernel.
      doomed: which channels are to go, bool (size,).

    Returns:
      A scalar, float32 or wider.

    >>> import numpy as np
    >>> one = Slice("w", 1, np.array([0, 1]))
    >>> float(decorrelation({"w": jnp.array([[1.0, 1.0], [0.0, 2.0]])}, one, jnp.array([False, True])))
    6.75
    """
    gram = _gram(_rows(leaves, producer), _outputs(producer, doomed))
    return jnp.square(gram).sum() / len(gram) ** 2


def gram_macs(group: Group, shape: Sequence[int]) -> int:
    """Multiply-accumulates that TPP takes in one step beside the network's: the Gram matrix and its way back.

    Args:
      group: a group that is pushed.
      shape: of its producer as it is now: n outputs of d weights.

    Returns:
      2 n^2 d.

    >>> import numpy as np
    >>> makes = Slice("a", 1, np.arange(3))
    >>> gram_macs(Group("a", 3, (makes,), makes, None, True), (5, 3))
    90
    """
    return 2 * shape[group.producer.axis] * math.prod(shape)


def _refuse_vectors(groups: Sequence[Group], leaves: Leaves) -> None:
    for group in groups:
        if jnp.ndim(leaves[group.producer.path]) < 2:
            raise ValueError(
                f"group {group.name!r} is made by {group.producer.path!r}, which is no kernel: its channels have no "
                "Gram matrix to decorrelate; leave it out"
            )


def _shrunk(group: Group, leaves: Leaves) -> tuple[Slice, ...]:
    """What shrinks of a doomed channel: its weights in the producer, its biases, its norms' scales and shifts."""
    return slices_of(group, leaves, "producer") + vectors_of(group, leaves)


def _rows(leaves: Leaves, producer: Slice) -> jax.Array:
    leaf = wide(leaves[producer.path])
    return jnp.moveaxis(leaf, producer.axis, 0).reshape(leaf.shape[producer.axis], -1)


def _outputs(producer: Slice, doomed: jax.Array) -> jax.Array:
    """Which outputs of the producer are to go. Those of other groups aren't."""
    return jnp.where(producer.index >= 0, doomed[producer.index], False)


def _gram(rows: jax.Array, gone: jax.Array) -> jax.Array:
    """The Gram entries with a row or a column in ``gone``, zeros elsewhere, (n, n)."""
    return jnp.where(gone[:, None] | gone[None, :], rows @ rows.T, 0)


def _slope(leaves: Leaves, producer: Slice, doomed: jax.Array) -> jax.Array:
    """Gradient of ``decorrelation``: 4 / n^2 times (masked Gram matrix) W, in the kernel's shape."""
    rows = _rows(leaves, producer)
    slope = 4 / len(rows) ** 2 * _gram(rows, _outputs(producer, doomed)) @ rows
    shape = leaves[producer.path].shape
    axis = producer.axis
    return jnp.moveaxis(slope.reshape(shape[axis], *shape[:axis], *shape[axis + 1 :]), 0, axis)
