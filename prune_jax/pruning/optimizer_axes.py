"""Optimizer states that don't keep a leaf for each params leaf: which of its axes theirs are.

Three of optax do: L-BFGS stacks past steps on a first axis, SM3 keeps a vector for each axis, Adafactor
keeps means over the largest and the second largest axis.
"""

from collections.abc import Mapping
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from prune_jax.pruning.leaf_names import Parts, longest_tail

Axes = Mapping[int, int]  # axis of the state's leaf -> axis of the params leaf
STACKED = ("diff_params_memory", "diff_updates_memory")
ROW, COLUMN = "v_row", "v_col"
PROJECTED = "projector"  # of GaLore, which can't be cut


class Factored(NamedTuple):
    """Shape of a params leaf, and the axes that Adafactor's column and row means run over."""

    shape: tuple[int, ...]
    second: int  # v_col is the mean over it
    largest: int  # v_row is the mean over it


def with_index(parts: Parts, start: int, known: Mapping[Parts, str]) -> tuple[str, int] | None:
    """The params leaf of SM3's vector ``mu/PATH/AXIS`` and where its path begins. None for any other leaf."""
    if len(parts) < 3 or not parts[-1].isdigit():
        return None
    name, begins = longest_tail(parts[:-1], known)
    longer = 0 < begins < start and parts[begins - 1] == "mu"
    return (name, begins) if longer and name is not None else None


def param_axes(
    parts: Parts,
    start: int,
    shape: tuple[int, ...],
    sizes: Mapping[int, int],
    siblings: Mapping[Parts, Any],
) -> tuple[Axes, bool]:
    """Which axes of its params leaf (at ``parts[start:]``) the axes of a leaf are. Whether some are left out."""
    role = parts[start - 1] if start else None
    if role in STACKED:
        return {k + 1: k for k in range(len(shape) - 1)}, False
    if role in (ROW, COLUMN):
        found = factored(parts, start, sizes, siblings)
        if found is not None:
            gone = found.largest if role == ROW else found.second
            return dict(enumerate(k for k in range(len(found.shape)) if k != gone)), True
    return {k: k for k in range(len(shape))}, False


def factored(
    parts: Parts, start: int, sizes: Mapping[int, int], siblings: Mapping[Parts, Any]
) -> Factored | None:
    """What Adafactor did to a leaf, read off the shapes of its row and column means. None where that is unclear."""
    means = [siblings.get((*parts[: start - 1], role, *parts[start:])) for role in (ROW, COLUMN)]
    if means[0] is None or means[1] is None:
        return None
    row, column = np.shape(means[0]), np.shape(means[1])
    fits = [_joined(row, column, *pair) for pair in permutations(range(len(row) + 1), 2)]
    fits = [fit for fit in fits if fit and all(fit.shape[k] == n for k, n in sizes.items() if k <= len(row))]
    return fits[0] if len(set(fits)) == 1 else None


def _joined(row: tuple[int, ...], column: tuple[int, ...], second: int, largest: int) -> Factored | None:
    """The shape whose means over ``largest`` and ``second`` have these shapes, if optax would choose these axes."""
    if len(row) != len(column):
        return None
    at = [k for k in range(len(row) + 1) if k != second].index(largest)
    shape = (*row[:largest], column[at], *row[largest:])
    rest = (*shape[:second], *shape[second + 1 :])
    fits = rest == column and two_largest(shape) == (second, largest)
    return Factored(shape, second, largest) if fits else None


def two_largest(shape: tuple[int, ...]) -> tuple[int, int]:
    """The second largest axis and the largest one, ties as in optax."""
    order = np.argsort(shape)
    return int(order[-2]), int(order[-1])
