"""Which mask belongs to which leaf, whatever kind of tree each of the two is."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from prune_jax.pruning.leaf_names import Named, Parts, collections, longest_tail, named_leaves, tails


def masks_of(tree: Any, mask: Any) -> list[Any]:
    """The mask of each leaf of ``tree``, in the leaves' order.

    Raises ValueError, naming the leaf, where none has the leaf's path or where its shape doesn't fit.
    """
    (named, structure), (given, of_mask) = named_leaves(tree), named_leaves(mask)
    if structure == of_mask:
        return [_fitting(item, m) for item, m in zip(named, given, strict=True)]
    by_path = {"/".join(item.parts): item for item in given}
    known = tails(by_path)
    inside = collections(item.parts for item in named)
    return [_fitting(item, by_path[_path_of_mask(item, known, inside)]) for item in named]


def _path_of_mask(item: Named, known: Mapping[Parts, str], inside: set[str]) -> str:
    """A mask of ``params/conv/kernel`` is one of ``conv/kernel`` too, and the other way round."""
    name, start = longest_tail(item.parts, known)
    if name is not None and (start == 0 or (start == 1 and item.parts[0] in inside)):
        return name
    has = ", ".join(list(known.values())[:3])
    raise ValueError(
        f"leaf {item.path!r} has no mask; the mask has {has}, ...: make it with expand(params, groups, keep)"
    )


def _fitting(item: Named, mask: Named) -> Any:
    shape, own = np.shape(item.leaf), np.shape(mask.leaf)
    if len(own) > len(shape) or any(m not in (1, n) for m, n in zip(own[::-1], shape[::-1], strict=False)):
        raise ValueError(
            f"leaf {item.path!r} has shape {shape}, its mask {own}: a mask is made of the params that it masks"
        )
    return mask.leaf
