"""Arrays of whole numbers that are a sum of one vector along each axis, held as these vectors.

The flat indices of a leaf are such a sum, and stay one through moves of whole arrays. A leaf of 10^9 weights then takes
a few kilobytes.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, Union

import numpy as np


@dataclasses.dataclass(frozen=True)
class Grid:
    """``offset + sum of vectors[k][i_k]`` at the position (i_0, i_1, ...). What NumPy's methods give, as far as needed.

    A reshape that no grid can hold gives a plain array.

    Attributes:
      vectors: one of each axis's size.
      offset: a number.

    Example:
      >>> grid = counted((2, 3)).transpose((1, 0)).reshape((3, 2, 1))
      >>> np.asarray(grid)[:, :, 0].tolist()
      [[0, 3], [1, 4], [2, 5]]
    """

    vectors: tuple[np.ndarray, ...]
    offset: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""
        return tuple(map(len, self.vectors))

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.vectors)

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All entries."""
        found = self.offset + _outer(self.vectors)
        return found if dtype is None else found.astype(dtype)

    def transpose(self, *axes: Any) -> "Grid":
        """The axes in another order, given as numbers or as one sequence of them."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return Grid(tuple(self.vectors[axis] for axis in order), self.offset)

    def reshape(self, *shape: Any) -> "Positions":
        """The same entries in the same order, in another shape. One size may be -1."""
        sizes = list(shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)
        if -1 in sizes:
            rest = math.prod(size for size in sizes if size != -1)
            sizes[sizes.index(-1)] = self.size // rest if rest else 0
        if 0 in sizes or math.prod(sizes) != self.size:
            return np.asarray(self).reshape(sizes)
        old = [(len(vector), vector) for vector in self.vectors if len(vector) != 1]
        ones = sum(int(vector[0]) for vector in self.vectors if len(vector) == 1)
        new = [size for size in sizes if size != 1]
        vectors: list[np.ndarray] = []
        while old or new:
            parts, wanted = _group(old, new)
            split = _split(_outer(parts).reshape(wanted))
            if split is None:
                return np.asarray(self).reshape(sizes)
            vectors += split
        found = iter(vectors)
        return Grid(
            tuple(np.zeros(1, np.int64) if size == 1 else next(found) for size in sizes), self.offset + ones
        )

    def __getitem__(self, index: Any) -> "Grid":
        """A part, by whole numbers and slices."""
        asked = index if isinstance(index, tuple) else (index,)
        asked = (*asked, *[slice(None)] * (self.ndim - len(asked)))
        kept = [vector[at] for vector, at in zip(self.vectors, asked, strict=True)]
        single = [isinstance(at, int | np.integer) for at in asked]
        offset = self.offset + sum(int(value) for value, one in zip(kept, single, strict=True) if one)
        return Grid(tuple(vector for vector, one in zip(kept, single, strict=True) if not one), offset)

    def broadcast_to(self, shape: Sequence[int]) -> "Grid":
        """Copies along axes of size 1."""
        pairs = zip(self.vectors, shape, strict=True)
        return Grid(tuple(np.broadcast_to(vector, size) for vector, size in pairs), self.offset)


Positions = Union[np.ndarray, Grid]  # noqa: UP007  a string can't be joined by |


def counted(shape: Sequence[int]) -> Grid:
    """The flat index of every position of an array of this shape."""
    strides = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
    return Grid(tuple(stride * np.arange(size) for stride, size in zip(strides, shape, strict=True)))


def copied(at: Positions, axis: int) -> bool:
    """Whether an axis longer than 1 holds copies."""
    if isinstance(at, Grid):
        vector = at.vectors[axis]
        return len(vector) > 1 and bool((vector == vector[0]).all())
    return at.strides[axis] == 0


def broadcast(at: Positions, shape: Sequence[int]) -> Positions:
    """``numpy.broadcast_to`` of as many axes."""
    return at.broadcast_to(shape) if isinstance(at, Grid) else np.broadcast_to(at, shape)


def _outer(vectors: Sequence[np.ndarray]) -> np.ndarray:
    """Their sum, each along an axis of its own."""
    rank = len(vectors)
    lined = [
        np.asarray(vector).reshape([-1 if axis == k else 1 for axis in range(rank)])
        for k, vector in enumerate(vectors)
    ]
    return functools.reduce(operator.add, lined, np.zeros((1,) * rank, np.int64))


def _group(old: list[tuple[int, np.ndarray]], new: list[int]) -> tuple[list[np.ndarray], list[int]]:
    """Take the fewest axes from the front of both lists that have equally many entries."""
    (size, vector), wanted = old.pop(0), [new.pop(0)]
    parts = [vector]
    while size != math.prod(wanted):
        if size < math.prod(wanted):
            more, vector = old.pop(0)
            size *= more
            parts.append(vector)
        else:
            wanted.append(new.pop(0))
    return parts, wanted


def _split(array: np.ndarray) -> list[np.ndarray] | None:
    """Vectors whose sum is the array, or None."""
    if array.ndim == 1:
        return [array]
    first = array[(0,) * array.ndim]
    vectors = [
        array[tuple(slice(None) if axis == k else 0 for axis in range(array.ndim))] - first
        for k in range(array.ndim)
    ]
    vectors[0] = vectors[0] + first
    return vectors if np.array_equal(_outer(vectors), array) else None
