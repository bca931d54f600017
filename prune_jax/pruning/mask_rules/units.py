"""Which units a mask rule chooses among, and an exact choice of the lowest that JAX can trace."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.granularity import ceiling
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.layouts.erk import erk_ratios
from prune_jax.pruning.layouts.kernel_axes import KernelAxes, kernel_axes
from prune_jax.pruning.layouts.unstructured import chosen

GRANULARITIES = ("unstructured", "filter")
DISTRIBUTIONS = ("uniform", "erk")


class Kernel(NamedTuple):
    """A kernel whose units are pruned: its layer, its place among the leaves, how its axes divide, how many units."""

    name: str
    place: int
    axes: KernelAxes
    units: int


def kernels_of(params: Any, layers: Sequence[str], granularity: str = "unstructured") -> list[Kernel]:
    """The kernels that a rule acts on, in the order of the leaves.

    Args:
      params: any pytree of arrays.
      layers: patterns over layer names, as in ``unstructured.kernels``.
      granularity: 'unstructured', whose units are weights, or 'filter', whose units are output channels.

    Raises:
      ValueError: a pattern fits no layer, or the granularity is unknown.
    """
    if granularity not in GRANULARITIES:
        raise ValueError(
            f"granularity is {granularity!r}; a mask rule chooses among {', '.join(GRANULARITIES)}"
        )
    leaves = dict(leaf_paths(params))
    places = {path: place for place, path in enumerate(leaves)}
    found = []
    for name, path in chosen(params, tuple(layers)).items():
        axes = kernel_axes(leaves, path)
        size = int(np.prod(axes.shape)) if granularity == "unstructured" else axes.matrices[2]
        found.append(Kernel(name, places[path], axes, size))
    return sorted(found, key=lambda kernel: kernel.place)


def ratios_of(kernels: Sequence[Kernel], ratio: float, distribution: str) -> list[float]:
    """The pruning ratio of each kernel: the same one, or those of ERK, which meet it all together.

    Raises:
      ValueError: the ratio is outside [0, 1), or the distribution is unknown.
    """
    if not 0 <= ratio < 1:
        raise ValueError(f"ratio is {ratio}; the fraction removed lies in [0, 1)")
    if distribution not in DISTRIBUTIONS:
        raise ValueError(f"distribution is {distribution!r}; choose one of {', '.join(DISTRIBUTIONS)}")
    if distribution == "uniform":
        return [ratio] * len(kernels)
    shapes = {kernel.name: kernel.axes.shape for kernel in kernels}
    return list(erk_ratios(shapes, ratio, {kernel.name: kernel.units for kernel in kernels}).values())


def gone_of(ratio: float, units: int) -> int:
    """How many of so many units go. One always stays."""
    return min(ceiling(ratio, units), units - 1)


@jax.jit
def lowest_go(scores: jax.Array, gone: jax.Array | int) -> jax.Array:
    """Which units stay when the ``gone`` lowest go: ``granularity.select`` for a number that JAX traces.

    Args:
      scores: one score a unit, larger means keep. Any shape.
      gone: how many go, a whole number.

    Returns:
      bools of the scores' shape, exactly ``gone`` of them False. Of equal scores the earlier go first.

    Example:
      >>> lowest_go(jnp.array([2.0, 1.0, 1.0, 1.0]), 2).tolist()
      [True, False, False, True]
    """
    flat = scores.reshape(-1)
    order = jnp.argsort(flat, stable=True)
    place = jnp.zeros(flat.shape, jnp.int32).at[order].set(jnp.arange(flat.size, dtype=jnp.int32))
    return (place >= gone).reshape(scores.shape)


def magnitudes(leaf: jax.Array, kernel: Kernel, granularity: str) -> jax.Array:
    """One score a unit: a weight's absolute value, or the Euclidean norm of a filter, ``(outputs,)``."""
    wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
    if granularity == "unstructured":
        return jnp.abs(wide)
    return jnp.sqrt(jnp.sum(jnp.square(wide.reshape(kernel.axes.matrices)), axis=(0, 1)))


def over_kernel(stays: jax.Array, kernel: Kernel, granularity: str) -> jax.Array:
    """The mask of a kernel, of its own shape, from what stays of its units."""
    if granularity == "unstructured":
        return stays
    return jnp.broadcast_to(stays, kernel.axes.matrices).reshape(kernel.axes.shape)


def with_masks(params: Any, masks: Mapping[int, jax.Array]) -> Any:
    """A mask like ``params``: those given, by their kernels' places, and one True for every other leaf."""
    leaves, treedef = jax.tree.flatten(params)
    whole = [masks.get(place, jnp.ones((1,) * np.ndim(leaf), bool)) for place, leaf in enumerate(leaves)]
    return jax.tree.unflatten(treedef, whole)


def each_kernel(
    params: Any, kernels: Sequence[Kernel], mask_of: Callable[[int, Kernel, jax.Array], jax.Array]
) -> Any:
    """The mask whose kernels are ``mask_of(number, kernel, leaf)``."""
    leaves = jax.tree.leaves(params)
    return with_masks(
        params,
        {
            kernel.place: mask_of(number, kernel, leaves[kernel.place])
            for number, kernel in enumerate(kernels)
        },
    )
