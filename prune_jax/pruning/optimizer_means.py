"""Adafactor's row and column means where what they are means over gets smaller.

Adafactor keeps of a leaf's second moments ``v`` the means over two axes, and takes ``v[i, j]`` to be
``row[i] * col[j] / mean(row)``. So the mean of row ``i`` over the columns that stay is
``row[i] * mean(col that stays) / mean(col)``. Where the gradients of pruned channels were 0, that is exact.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.keep import Cuts
from prune_jax.pruning.matching import Match
from prune_jax.pruning.optimizer_axes import COLUMN, ROW


def with_small_means(found: Sequence[Match], small: Sequence[Any], wanted: Cuts) -> list[Any]:
    """The cut leaves, Adafactor's means taken over what stays.

    Args:
      found: the leaves of a state before they were cut, arranged as the small network's optimizer has them.
      small: the cut leaves.
      wanted: leaf path -> axis -> which positions stay.
    """
    out, at = list(small), {match.parts: k for k, match in enumerate(found)}
    for k, match in enumerate(found):
        if match.role not in (ROW, COLUMN) or match.name not in wanted or not match.partial:
            continue
        role = COLUMN if match.role == ROW else ROW
        other = at[(*match.parts[: match.start - 1], role, *match.parts[match.start :])]
        stays = wanted[match.name or ""]
        if _gone(match, found[other]) in stays and not isinstance(small[k], jax.ShapeDtypeStruct):
            factor = _factor(match, found[other], small[other], stays)
            out[k] = (small[k] * factor).astype(small[k].dtype)
    return out


def _gone(match: Match, other: Match) -> int:
    """The axis of the params leaf that a mean was taken over."""
    (axis,) = set(other.axes.values()) - set(match.axes.values())
    return axis


def _factor(match: Match, other: Match, small: Any, stays: Mapping[int, np.ndarray]) -> Any:
    """What each entry of a mean is multiplied by, with size 1 on the axis that the other mean lacks."""
    gone, numbers = _gone(match, other), other.leaf
    (mine,) = (k for k, axis in other.axes.items() if axis == gone)
    xp: Any = jnp if isinstance(numbers, jax.core.Tracer) else np
    before, after = xp.asarray(numbers), xp.asarray(small)
    for k, axis in other.axes.items():
        if axis in stays and k != mine:
            before = before.take(np.flatnonzero(stays[axis]), k)
    dense, left = before.mean(mine), after.mean(mine)
    ratio = xp.where(dense > 0, left / xp.where(dense > 0, dense, 1), 1)
    rest = [axis for k, axis in sorted(other.axes.items()) if k != mine]
    for k, axis in sorted(match.axes.items()):
        if axis not in rest:
            ratio = xp.expand_dims(ratio, k)
    return ratio
