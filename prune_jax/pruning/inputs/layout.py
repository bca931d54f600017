"""A kernel as matrices: which axes of a leaf are summed over, and which make outputs."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from prune_jax.pruning.inputs.grid import Grid, Positions

Axes = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a kernel leaf is read as ``blocks`` matrices (rows, columns).

    An output is the sum over the rows of input times weight, so the rows are the inputs' positions and
    each column is one output. Blocks are matrices that never meet: the groups of a grouped convolution,
    experts, or layers stacked for a scan. All orders are those of the leaf.

    Attributes:
      shape: of the leaf.
      view: the shape with an axis split in two where it holds blocks and columns.
      blocks, rows, columns: axes of ``view``.
    """

    shape: tuple[int, ...]
    view: tuple[int, ...]
    blocks: Axes
    rows: Axes
    columns: Axes

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many blocks, rows and columns there are."""
        found = (math.prod(self.view[k] for k in axes) for axes in (self.blocks, self.rows, self.columns))
        return next(found), next(found), next(found)


def to_matrices(layout: Layout, leaf: Any) -> Any:
    """The leaf as an array (blocks, rows, columns).

    >>> dense = Layout((2, 3), (2, 3), (), (0,), (1,))
    >>> to_matrices(dense, np.zeros((2, 3))).shape
    (1, 2, 3)
    """
    order = (*layout.blocks, *layout.rows, *layout.columns)
    return leaf.reshape(layout.view).transpose(order).reshape(layout.sizes)


def to_leaf(layout: Layout, matrices: Any) -> Any:
    """The inverse of ``to_matrices``."""
    order = (*layout.blocks, *layout.rows, *layout.columns)
    parts = matrices.reshape([layout.view[k] for k in order])
    return parts.transpose(np.argsort(order)).reshape(layout.shape)


def _parts(layout: Layout, axis: int) -> Axes:
    """The axes of the view that an axis of the leaf became."""
    start = math.prod(layout.shape[:axis])
    ends = np.cumprod((1, *layout.view))[:-1]
    stop = start * layout.shape[axis]
    return tuple(
        k for k, (end, n) in enumerate(zip(ends, layout.view, strict=True)) if start <= end < stop and n > 1
    )


def channels_of_rows(layout: Layout, axis: int, index: np.ndarray) -> np.ndarray | None:
    """Which channel each row reads, where an axis of the leaf is one that is summed over.

    Args:
      layout: of the leaf.
      axis: of the leaf.
      index: the channel of each position on it, -1 for none.

    Returns:
      (rows,) the channel of each row. None where the axis makes outputs, or counts blocks.

    >>> channels_of_rows(Layout((2, 2, 3), (2, 2, 3), (), (0, 1), (2,)), 1, np.array([5, 7]))
    array([5, 7, 5, 7])
    """
    parts = _parts(layout, axis)
    if not set(parts) <= set(layout.rows) or (
        not parts and layout.shape[axis] == 1 and axis not in layout.rows
    ):
        return None
    own = np.asarray(index).reshape([n if k in parts else 1 for k, n in enumerate(layout.view)])
    wide = np.broadcast_to(own, [n if k in layout.rows else 1 for k, n in enumerate(layout.view)])
    order = (*layout.rows, *layout.blocks, *layout.columns)
    return wide.transpose(order).reshape(-1)


@dataclasses.dataclass(frozen=True)
class Order:
    """Where the blocks, rows and columns of an equation lie in the leaf's own order: position -> number."""

    blocks: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


def layout_of(matrices: Positions, shape: tuple[int, ...]) -> tuple[Layout, Order] | None:
    """How a kernel lies in its leaf, from the leaf's flat index of every weight.

    Args:
      matrices: (blocks, rows, columns) of flat indices, as an equation multiplies them.
      shape: the leaf's.

    Returns:
      The layout and the equation's order. None where the leaf isn't one weight for each block, row and
      column, or where an axis of the leaf mixes them otherwise than as blocks times columns.
    """
    if matrices.size != math.prod(shape):
        return None
    ends = tuple(np.asarray(end) for end in (matrices[:, 0, 0], matrices[0, :, 0], matrices[0, 0, :]))
    if not isinstance(matrices, Grid):  # which is a sum by itself
        sums = ends[0][:, None, None] + ends[1][None, :, None] + ends[2][None, None, :] - 2 * ends[0][0]
        if not np.array_equal(matrices, sums):
            return None
    view = _split(ends, shape)
    roles = [_varying(end, view) for end in ends]
    if any(sum(k in role for role in roles) > 1 for k in range(len(view))):
        return None
    rest = tuple(k for k in range(len(view)) if not any(k in role for role in roles))
    layout = Layout(shape, view, roles[0], roles[1], (*roles[2], *rest))
    places = [_places(end, view, role) for end, role in zip(ends, roles, strict=True)]
    if any(len(np.unique(place)) != n for place, n in zip(places, layout.sizes, strict=True)):
        return None
    return layout, Order(*places)


def _coordinates(flat: np.ndarray, view: Sequence[int]) -> tuple[np.ndarray, ...]:
    return np.unravel_index(flat, tuple(view))


def _varying(flat: np.ndarray, view: Sequence[int]) -> Axes:
    """The axes along which these flat indices differ."""
    return tuple(k for k, along in enumerate(_coordinates(flat, view)) if (along != along[0]).any())


def _split(ends: Sequence[np.ndarray], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with every axis that holds blocks and something else split into both."""
    blocks, *others = ends
    mixed = set(_varying(blocks, shape)) & {k for other in others for k in _varying(other, shape)}
    view: list[int] = []
    for axis, size in enumerate(shape):
        count = len(np.unique(_coordinates(blocks, shape)[axis])) if axis in mixed else 1
        view += [count, size // count] if count > 1 and size % count == 0 else [size]
    return tuple(view)


def _places(flat: np.ndarray, view: tuple[int, ...], axes: Axes) -> np.ndarray:
    """The number of each index among all along these axes, in the leaf's order."""
    if not axes:
        return np.zeros(len(flat), np.int64)
    found = _coordinates(flat, view)
    return np.ravel_multi_index([found[k] for k in axes], [view[k] for k in axes])
