"""What is pruned as one unit, and which units go: one exact selection for every granularity.

The rule is the same everywhere: the lowest scores go, and of equal scores the earlier one goes first.
A count is never missed by ties, and the same scores always give the same choice. Granularity 'filter'
scores channels (``allocation`` turns the choice into a keep), and 'head' those channels alone that are
attention heads (``heads``). 'unstructured' scores single weights (``unstructured`` turns the choice into a
mask), 'block' scores blocks of them (``blocks``), and 'N:M' compares the M of each group (``n_of_m``).
"""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import jax
import numpy as np

GRANULARITIES = ("filter", "head", "unstructured", "block")  # and patterns N:M
SCOPES = ("layer", "global")

# 0.7 * 10 is 7.000000000000001 on some paths of arithmetic. A ratio isn't meant that precisely.
NOISE = 1e-9


def cuts_channels(granularity: str) -> bool:
    """Whether whole channels go, by surgery. Else weights are held at zero by a mask."""
    return granularity in ("filter", "head")


def ceiling(ratio: float, size: int) -> int:
    """``ceil(ratio * size)``, safe from noise in the last digit. ValueError for a ratio outside [0, 1]."""
    if not 0 <= ratio <= 1:
        raise ValueError(f"a pruning ratio is the fraction removed, in [0, 1], not {ratio}")
    return math.ceil(ratio * size - NOISE)


def _comparable(scores: Any) -> np.ndarray:
    """The scores as a flat host array that NumPy can partition."""
    flat = np.asarray(scores).reshape(-1)
    if flat.dtype.kind not in "fiu":  # bfloat16 and its like, which float32 holds exactly
        flat = flat.astype(np.float32)
    if flat.dtype.kind == "f" and np.isnan(flat).any():
        raise ValueError("scores hold NaN; a criterion must rank every unit")
    return flat


def _lowest(flat: np.ndarray, gone: int) -> np.ndarray:
    """Keep-array that is False at the ``gone`` lowest entries. Linear time: nothing is sorted.

    Of [3 1 2 1 1] with gone = 2 the second lowest value is 1. All below it go (none), all above it
    stay, and of those equal to it the first two go.
    """
    if not 0 <= gone <= flat.size:
        raise ValueError(f"{gone} units are to go, but there are {flat.size}; ask for fewer")
    if gone == 0:
        return np.ones(flat.shape, bool)
    threshold = np.partition(flat, gone - 1)[gone - 1]
    keep = flat >= threshold
    ties = gone - (flat.size - np.count_nonzero(keep))
    keep[np.flatnonzero(flat == threshold)[:ties]] = False
    return keep


def select(scores: Any, gone: int | float) -> Any:
    """Which units stay when the lowest scores of every leaf go.

    Args:
      scores: an array, or a pytree of arrays. One score per unit, larger means keep.
      gone: how many units of each leaf go. A whole number is a count, a float is a pruning ratio, and
        ``ceil(ratio * n)`` of a leaf's ``n`` units go.

    Returns:
      Boolean NumPy arrays in the tree and shapes of ``scores``. Exactly the asked number is False:
      the lowest scores, of equal scores those that come earlier in flat order.

    Raises:
      ValueError: a score is NaN, or more units are to go than there are.

    Example:
      >>> select(np.array([2.0, 1.0, 1.0, 1.0]), 0.5)
      array([ True, False, False,  True])
    """

    def one(leaf: Any) -> np.ndarray:
        flat = _comparable(leaf)
        count = int(gone) if isinstance(gone, Integral) else ceiling(gone, flat.size)
        return _lowest(flat, count).reshape(np.shape(leaf))

    return jax.tree.map(one, scores)


def select_global(scores: Any, gone: int | float, at_least: int | Sequence[int] = 0) -> Any:
    """Which units stay when the lowest scores of all leaves together go.

    Args:
      scores: a pytree of arrays. One score per unit, larger means keep.
      gone: how many units go in all: a count, or a pruning ratio where it is a float.
      at_least: how many units every leaf keeps whatever the ranking says, one number or one per leaf.
        Its best units are out of reach, and other leaves' units go instead.

    Returns:
      Boolean NumPy arrays like those of ``select``. Equal scores go in the order of leaves, then flat.

    Raises:
      ValueError: a score is NaN, or fewer units are in reach than are to go.
    """
    leaves, treedef = jax.tree.flatten(scores)
    flats = [_comparable(leaf) for leaf in leaves]
    floors = [at_least] * len(flats) if isinstance(at_least, int) else list(at_least)
    if len(floors) != len(flats):
        raise ValueError(f"at_least has {len(floors)} numbers for {len(flats)} leaves")
    size = sum(flat.size for flat in flats)
    count = int(gone) if isinstance(gone, Integral) else ceiling(gone, size)
    keeps = _within_floors(flats, count, floors)
    shaped = [keep.reshape(np.shape(leaf)) for keep, leaf in zip(keeps, leaves, strict=True)]
    return jax.tree.unflatten(treedef, shaped)


def _within_floors(flats: list[np.ndarray], gone: int, floors: Sequence[int]) -> list[np.ndarray]:
    """Keep-arrays of all leaves ranked together.

    Where the plain ranking takes too much of a leaf, that leaf loses all that its floor allows, and
    the others share the rest. Each round fixes one leaf or more, so there are at most as many rounds
    as leaves. Most often there is one.
    """
    floors = [min(floor, flat.size) for floor, flat in zip(floors, flats, strict=True)]
    reach = sum(flat.size for flat in flats) - sum(floors)
    if gone > reach:
        raise ValueError(
            f"{gone} units are to go, but {reach} are in reach; ask for fewer, or lower at_least"
        )
    keeps = [np.ones(flat.shape, bool) for flat in flats]
    rest = list(range(len(flats)))
    while rest:
        ends = np.cumsum([flats[k].size for k in rest])[:-1]
        pool = _lowest(np.concatenate([flats[k] for k in rest]), gone)
        for k, keep in zip(rest, np.split(pool, ends), strict=True):
            keeps[k] = keep
        short = [k for k in rest if np.count_nonzero(keeps[k]) < floors[k]]
        for k in short:
            keeps[k] = _lowest(flats[k], flats[k].size - floors[k])
            gone -= flats[k].size - floors[k]
        rest = [k for k in rest if k not in short] if short else []
    return keeps


def select_each(scores: Any, gone: int, axis: int = -1) -> np.ndarray:
    """Which entries stay when the ``gone`` lowest of every line along an axis go.

    Args:
      scores: an array. Larger means keep. Lines are short: the work grows with the square of their length.
      gone: how many of each line go.
      axis: along which the lines lie.

    Returns:
      A boolean NumPy array of the scores' shape. Of each line exactly ``gone`` entries are False: the lowest, of
      equal ones those that come earlier.

    Raises:
      ValueError: a score is NaN, or a line is shorter than ``gone``.

    Example:
      >>> select_each(np.array([[4.0, 1.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0]]), 2)
      array([[ True, False,  True, False],
             [False, False,  True,  True]])
    """
    lines = np.moveaxis(_comparable(scores).reshape(np.shape(scores)), axis, 0)
    if not 0 <= gone <= len(lines):
        raise ValueError(f"{gone} of every {len(lines)} are to go; ask for fewer")
    rank: Any = np.zeros(
        lines.shape, np.uint8 if len(lines) < 256 else np.uint32
    )  # how many of its line go before it
    for later in range(1, len(lines)):
        for earlier in range(later):
            first = lines[earlier] <= lines[later]
            rank[later] += first
            rank[earlier] += ~first
    return np.moveaxis(rank >= gone, 0, axis)
