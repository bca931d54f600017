"""A kernel as matrices (inputs, outputs), one for each position of its window."""

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from prune_jax.pruning.recovery import stated_axes


class KernelAxes(NamedTuple):
    """How a kernel's axes divide, in Flax's order: window, inputs, outputs.

    Attributes:
      shape: the kernel's own.
      window: how many leading axes are the window of a convolution.
      inputs: how many axes after those are inputs, over which the layer contracts.
    """

    shape: tuple[int, ...]
    window: int
    inputs: int

    @property
    def matrices(self) -> tuple[int, int, int]:
        """(positions of the window, inputs, outputs)."""
        ends = (0, self.window, self.window + self.inputs, len(self.shape))
        sizes = [math.prod(self.shape[start:end]) for start, end in itertools.pairwise(ends)]
        return sizes[0], sizes[1], sizes[2]


def kernel_axes(leaves: Mapping[str, Any], path: str) -> KernelAxes:
    """How the axes of the kernel at ``path`` divide.

    A convolution contracts over the input channels, at each position of its window. The kernels of Flax's attention
    layers, and those beside a bias of several axes, are dense kernels of several axes: see ``recovery.stated_axes``.

    Args:
      leaves: all leaves by path.
      path: of a leaf of rank two or more.

    Returns:
      The division.

    Example:
      >>> kernel_axes({"conv/kernel": np.zeros((3, 3, 8, 16))}, "conv/kernel").matrices
      (9, 8, 16)
    """
    shape = tuple(np.shape(leaves[path]))
    inputs = stated_axes(leaves, path, leaves[path])
    return KernelAxes(shape, 0, inputs) if inputs is not None else KernelAxes(shape, len(shape) - 2, 1)


def as_matrices(
    array: Any, axes: KernelAxes, fill: float = 0.0, *, rows: int = 1, columns: int = 1
) -> np.ndarray:
    """An array of the kernel's shape as (positions, inputs, outputs).

    Inputs and outputs are filled up to multiples of ``rows`` and ``columns`` with ``fill``.
    """
    matrices = np.asarray(array).reshape(axes.matrices)
    _, inputs, outputs = axes.matrices
    more = ((0, 0), (0, -inputs % rows), (0, -outputs % columns))
    return matrices if not any(map(sum, more)) else np.pad(matrices, more, constant_values=fill)


def as_kernel(matrices: np.ndarray, axes: KernelAxes) -> np.ndarray:
    """The way back from ``as_matrices``, without what it filled up."""
    _, inputs, outputs = axes.matrices
    return matrices[:, :inputs, :outputs].reshape(axes.shape)
