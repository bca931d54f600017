"""Block sparsity: blocks of weights over (inputs, outputs) of a kernel live or die as one."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.layouts.kernel_axes import KernelAxes, as_kernel, as_matrices, kernel_axes
from prune_jax.pruning.layouts.unstructured import alive_of, chosen, scores_at, unstructured_mask

Block = tuple[int, int]  # inputs, outputs


def refuse_bad_block(block: Any) -> None:
    """Raise ValueError unless a block is two whole numbers of at least 1."""
    sides = tuple(block) if isinstance(block, Iterable) else (block,)
    whole = [isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in sides]
    if len(whole) != 2 or not all(whole):
        given = sides if isinstance(block, Iterable) else block
        raise ValueError(f"a block is (inputs, outputs), two whole numbers of at least 1, not {given}")


def block_counts(
    params: Any, block: Block, where: Sequence[str] = ("*",), *, pad: bool = False
) -> dict[str, int]:
    """How many blocks each chosen layer has.

    Args:
      params: any pytree of arrays, or of their shapes and dtypes.
      block: inputs and outputs of a block.
      where: patterns over layer names.
      pad: whether blocks at the edge may be smaller.

    Returns:
      Layer name -> number of blocks.

    Raises:
      ValueError: the block is no pair of whole numbers, or doesn't divide a kernel and ``pad`` is False.

    Example:
      >>> block_counts({"a": {"kernel": np.zeros((4, 6))}}, (2, 3))
      {'a': 4}
    """
    refuse_bad_block(block)
    leaves = dict(leaf_paths(params))
    counts = {}
    for name, path in chosen(params, where).items():
        axes = kernel_axes(leaves, path)
        if not pad:
            _refuse_misfit(name, axes, block)
        positions, rows, columns = _grid(axes, block)
        counts[name] = positions * rows * columns
    return counts


def _refuse_misfit(name: str, axes: KernelAxes, block: Block) -> None:
    _, inputs, outputs = axes.matrices
    if inputs % block[0] or outputs % block[1]:
        raise ValueError(
            f"block {tuple(block)} doesn't fit layer {name!r}, which has {inputs} inputs and {outputs} outputs: choose "
            "divisors of both, leave it out, or pad"
        )


def _grid(axes: KernelAxes, block: Block) -> tuple[int, int, int]:
    """(positions of the window, blocks along inputs, blocks along outputs)."""
    positions, inputs, outputs = axes.matrices
    return positions, -(-inputs // block[0]), -(-outputs // block[1])


def block_mask(
    params: Any,
    scores: Mapping[str, Any],
    ratio: float | Mapping[str, float],
    block: Block,
    *,
    where: Sequence[str] = ("*",),
    pad: bool = False,
    before: Any = None,
    **how: Any,
) -> Any:
    """The mask that prunes the blocks with the lowest mean score.

    A block holds ``block[0]`` inputs times ``block[1]`` outputs, at one position of a convolution's window.

    Args:
      params: any pytree of arrays, kernels in Flax's order (window, inputs, outputs).
      scores: leaf path -> array of the leaf's shape, larger means keep.
      ratio: the fraction of blocks removed, as in ``unstructured.unstructured_mask``.
      block: inputs and outputs of a block.
      where: patterns over layer names that choose what is pruned.
      pad: blocks at the edge may be smaller, where the block divides a kernel's sides not.
      before: a mask of these params. A block without a living weight counts as pruned.
      **how: ``scope``, ``normalise`` and ``at_least`` of ``unstructured_mask``, about blocks.

    Returns:
      A pytree like ``params`` of boolean NumPy arrays, as ``unstructured_mask`` gives it. ``ceil(ratio * n)`` of a
      layer's ``n`` blocks go, of equal scores the first, by position, input, output.

    Raises:
      KeyError: scores lack a chosen kernel.
      ValueError: a kernel doesn't fit, or as ``unstructured_mask``.

    Example:
      >>> params = {"a": {"kernel": np.array([[1.0, 2.0, 0.0, 1.0], [3.0, 4.0, 1.0, 0.0]])}}
      >>> block_mask(params, {"a/kernel": params["a"]["kernel"]}, 0.5, (2, 2))["a"]["kernel"][0]
      array([ True,  True, False, False])
    """
    block_counts(params, block, where, pad=pad)
    leaves, masks = dict(leaf_paths(params)), alive_of(before, params)
    named = chosen(params, where)
    axes = {name: kernel_axes(leaves, path) for name, path in named.items()}
    means, living = {}, {}
    for name, path in named.items():
        scored = scores_at(scores, path, axes[name].shape)
        means[f"{name}/block"] = _means(scored, axes[name], block)
        alive = np.broadcast_to(masks[path], axes[name].shape)
        living[f"{name}/block"] = _any(alive, axes[name], block)
    grids = unstructured_mask(means, means, ratio, before=living, **how)
    for name, path in named.items():
        grid = np.broadcast_to(grids[f"{name}/block"], means[f"{name}/block"].shape)
        full = np.repeat(np.repeat(grid, block[0], 1), block[1], 2)
        masks[path] = masks[path] & as_kernel(full, axes[name])
    return jax.tree.unflatten(jax.tree.structure(params), [masks[path] for path in leaves])


def _means(scores: np.ndarray, axes: KernelAxes, block: Block) -> np.ndarray:
    """Mean score of each block's own weights, in float64."""
    ones = np.broadcast_to(np.ones((), np.float32), axes.shape)
    whole = as_matrices(scores, axes, rows=block[0], columns=block[1])
    sums = _summed(whole, block, np.float64)
    if whole.shape == axes.matrices:
        return sums / (block[0] * block[1])
    return sums / _summed(as_matrices(ones, axes, rows=block[0], columns=block[1]), block, np.float64)


def _any(alive: np.ndarray, axes: KernelAxes, block: Block) -> np.ndarray:
    counts = _summed(as_matrices(alive, axes, rows=block[0], columns=block[1]), block, np.int64)
    return counts > 0


def _summed(matrices: np.ndarray, block: Block, dtype: type) -> np.ndarray:
    """Sum of each block: down its rows first, along which memory lies, then across."""
    positions, inputs, outputs = matrices.shape
    rows = matrices.reshape(positions, inputs // block[0], block[0], outputs).sum(2, dtype=dtype)
    return rows.reshape(positions, inputs // block[0], outputs // block[1], block[1]).sum(3)
