"""The coupled slices of a group's channels: which kernels make and read each channel."""

from collections.abc import Container
from typing import Any

import jax.numpy as jnp

from prune_jax.pruning.jaxpr.groups import Group, Slice
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.layouts.unstructured import is_kernel


def kernel_paths(params: Any) -> frozenset[str]:
    """The paths of the kernels among the leaves."""
    return frozenset(path for path, leaf in leaf_paths(params) if is_kernel(leaf))


def coupled_slices(group: Group, kernels: Container[str]) -> tuple[Slice, ...]:
    """The kernels' slices that live or die with a group's channels, the producer first.

    Args:
      group: one of ``find_groups``.
      kernels: paths of leaves that count (``kernel_paths``). Biases and norms are left out.

    Returns:
      The group's producer, then its other members among the kernels, in the order of the group.

    Example:
      >>> import numpy as np
      >>> makes, reads = Slice("a/kernel", 1, np.arange(3)), Slice("b/kernel", 0, np.arange(3))
      >>> bias = Slice("a/bias", 0, np.arange(3))
      >>> group = Group("a", 3, (bias, makes, reads), makes, None, True)
      >>> [one.path for one in coupled_slices(group, {"a/kernel", "b/kernel"})]
      ['a/kernel', 'b/kernel']
    """
    first = group.producer
    rest = [
        one
        for one in group.members
        if one.path in kernels and (one.path, one.axis) != (first.path, first.axis)
    ]
    return (first, *rest)


def slice_sums(leaf: Any, of: Slice, size: int) -> Any:
    """Sum of a leaf's numbers over each channel's part of it, (size,), traced by JAX."""
    rest = tuple(k for k in range(leaf.ndim) if k != of.axis)
    sums, mine = leaf.sum(rest), of.index >= 0
    return jnp.zeros(size, sums.dtype).at[of.index[mine]].add(sums[mine])
