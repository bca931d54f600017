"""Whether kernels lie in their leaves as layouts of masks read them: (window, inputs, outputs), Flax's order."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from prune_jax.pruning.inputs.layout import Layout, channels_of_rows
from prune_jax.pruning.inputs.products import traced
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.layouts.kernel_axes import kernel_axes


def refuse_other_orders(apply: Callable, variables: Any, *inputs: Any, paths: Mapping[str, str]) -> None:
    """Raise ValueError, naming the layer, for a kernel whose inputs lie on other axes than ``kernel_axes`` says.

    A kernel (outputs, inputs), as PyTorch has it, would be masked along the wrong axis without a word.

    Args:
      apply: ``apply(variables, *inputs)``, any traceable function.
      variables: arrays, or their shapes and dtypes.
      *inputs: the same.
      paths: layer name -> path of its kernel in ``variables``.
    """
    leaves, products = dict(leaf_paths(variables)), traced(apply, variables, *inputs).products
    for name, path in paths.items():
        if path not in products:
            raise ValueError(
                f"layer {name!r} multiplies data nowhere that a trace can follow, so its inputs are unknown: leave it "
                "out, or choose granularity 'unstructured'"
            )
        axes = kernel_axes(leaves, path)
        ahead = axes.window + axes.inputs
        summed = _summed(products[path][0].layout)
        if any(along != (axis < ahead) for axis, along in summed.items()):
            over = [axis for axis, along in summed.items() if along]
            raise ValueError(
                f"layer {name!r} sums over axes {over} of its kernel of shape {axes.shape}, which is read as (window, "
                "inputs, outputs): store it in that order, leave it out, or choose granularity 'unstructured'"
            )


def _summed(layout: Layout) -> dict[int, bool]:
    """Of each axis of the leaf with more than one position, whether the layer sums over it."""
    return {
        axis: channels_of_rows(layout, axis, np.arange(size)) is not None
        for axis, size in enumerate(layout.shape)
        if size > 1
    }
