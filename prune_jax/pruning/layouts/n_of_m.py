"""N:M sparsity: of each M consecutive weights along the contraction axis of a kernel N stay."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from prune_jax.pruning.granularity import select_each
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.layouts.kernel_axes import KernelAxes, as_kernel, as_matrices, kernel_axes
from prune_jax.pruning.layouts.unstructured import alive_of, chosen, scores_at


class Pattern(NamedTuple):
    """``n`` of each ``m`` weights stay."""

    n: int
    m: int

    @property
    def ratio(self) -> float:
        """The fraction removed."""
        return 1 - self.n / self.m


def is_pattern(granularity: str) -> bool:
    """Whether a granularity is written as two numbers with a colon between, such as '2:4'."""
    return re.fullmatch(r"\d+:\d+", str(granularity)) is not None


def pattern_of(granularity: str) -> Pattern:
    """The pattern that a granularity such as '2:4' names.

    Raises ValueError unless 0 < N < M, both whole numbers.

    >>> pattern_of("2:4").ratio
    0.5
    """
    found = re.fullmatch(r"(\d+):(\d+)", str(granularity))
    n, m = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 < n < m:
        raise ValueError(
            f"{granularity!r} is no pattern N:M with 0 < N < M, such as '2:4' (2 of each 4 stay)"
        )
    return Pattern(n, m)


def refuse_misfit(params: Any, pattern: Pattern, where: Sequence[str] = ("*",)) -> None:
    """Raise ValueError, naming the layer, where M doesn't divide the contraction length of a chosen kernel."""
    leaves = dict(leaf_paths(params))
    for name, path in chosen(params, where).items():
        _, length, _ = kernel_axes(leaves, path).matrices
        if length % pattern.m:
            raise ValueError(
                f"pattern {pattern.n}:{pattern.m} doesn't fit layer {name!r}, which contracts over {length} inputs, no "
                f"multiple of {pattern.m}: leave it out, or pad"
            )


def n_of_m_mask(
    params: Any,
    scores: Mapping[str, Any],
    pattern: Pattern,
    *,
    where: Sequence[str] = ("*",),
    pad: bool = False,
    before: Any = None,
) -> Any:
    """The mask that leaves the ``n`` highest scores of each ``m`` consecutive weights along the contraction axis.

    The contraction axis of a convolution is that of its input channels, at each position of the window.

    Args:
      params: any pytree of arrays, kernels in Flax's order (window, inputs, outputs).
      scores: leaf path -> array of the leaf's shape, larger means keep.
      pattern: how many of how many stay.
      where: patterns over layer names (``unstructured.kernels``) that choose what is pruned.
      pad: where ``m`` doesn't divide the length, the last group is filled up with weights that count as pruned, so
        that of its ``r`` weights the ``min(n, r)`` highest stay. Otherwise such a kernel is refused.
      before: a mask of these params, whose pruned weights stay pruned, and count.

    Returns:
      A pytree like ``params`` of boolean NumPy arrays: True stays. Chosen kernels have their full shape, other leaves
      the earlier mask, or one True with size 1 on all axes. Of equal scores the earlier go first.

    Raises:
      KeyError: scores lack a chosen kernel.
      ValueError: a kernel doesn't fit, a pattern over names fits nothing, or a score is NaN.

    Source: the rule of Zhou et al., ICLR 2021, arXiv 2102.04010.

    Example:
      >>> params = {"a": {"kernel": np.array([[0.1], [-0.9], [0.3], [0.2]])}}
      >>> n_of_m_mask(params, {"a/kernel": abs(params["a"]["kernel"])}, Pattern(2, 4))["a"]["kernel"][:, 0]
      array([False,  True,  True, False])
    """
    if not pad:
        refuse_misfit(params, pattern, where)
    leaves, masks = dict(leaf_paths(params)), alive_of(before, params)
    for path in chosen(params, where).values():
        axes = kernel_axes(leaves, path)
        alive = masks[path]
        masks[path] = alive & _stays(scores_at(scores, path, axes.shape), alive, axes, pattern)
    return jax.tree.unflatten(jax.tree.structure(params), [masks[path] for path in leaves])


def _stays(scores: np.ndarray, alive: np.ndarray, axes: KernelAxes, pattern: Pattern) -> np.ndarray:
    """What is pruned already goes first, and what fills up a group before all."""
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float32)
    marks = scores if alive.all() else np.where(alive, scores, scores.dtype.type(-np.inf))
    lines = as_matrices(marks, axes, -np.inf, rows=pattern.m)
    positions, length, outputs = lines.shape
    groups = lines.reshape(positions, length // pattern.m, pattern.m, outputs)
    return as_kernel(select_each(groups, pattern.m - pattern.n, axis=2).reshape(lines.shape), axes)
