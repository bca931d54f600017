"""Scores of weights to a mask, whatever the granularity: single weights, blocks, N of each M."""

from collections.abc import Mapping
from typing import Any

from prune_jax.pruning.layouts.blocks import block_mask
from prune_jax.pruning.layouts.n_of_m import is_pattern, n_of_m_mask, pattern_of
from prune_jax.pruning.layouts.unstructured import unstructured_mask


def mask_of(
    params: Any,
    scores: Mapping[str, Any],
    granularity: str,
    ratio: Any,
    *,
    block: tuple[int, ...] = (),
    pad: bool = False,
    **how: Any,
) -> Any:
    """The mask of a granularity that masks weights.

    Args:
      params: any pytree of arrays.
      scores: leaf path -> array of the leaf's shape, larger means keep.
      granularity: 'unstructured', 'block', or a pattern such as '2:4', which says by itself how much goes.
      ratio: as in ``unstructured_mask``. A pattern reads it for the layers alone, where it is a mapping.
      block: inputs and outputs of a block.
      pad: whether a last group of M, or a block at the edge, may be smaller.
      **how: ``where`` and ``before``. Other granularities than patterns take ``scope``, ``normalise`` and ``at_least``
        too.

    Returns:
      A pytree like ``params`` of boolean NumPy arrays: True stays.

    Raises:
      KeyError, ValueError: as the function of each granularity.

    Example:
      >>> params = {"a": {"kernel": np.array([[3.0, -1.0], [2.0, 4.0]])}}
      >>> mask_of(params, {"a/kernel": abs(params["a"]["kernel"])}, "1:2", None)["a"]["kernel"]
      array([[ True, False],
             [False,  True]])
    """
    if is_pattern(granularity):
        layers = how.get("where", ("*",))
        if isinstance(ratio, Mapping):
            layers = tuple(ratio)
        return n_of_m_mask(
            params, scores, pattern_of(granularity), where=layers, pad=pad, before=how.get("before")
        )
    if granularity == "block":
        if isinstance(ratio, Mapping):
            how["where"] = tuple(ratio)
        return block_mask(params, scores, ratio, (block[0], block[1]), pad=pad, **how)
    return unstructured_mask(params, scores, ratio, **how)
