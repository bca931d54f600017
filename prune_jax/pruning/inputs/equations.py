"""How a matrix product and a convolution read a kernel: its blocks, rows and columns."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from prune_jax.pruning.inputs.grid import Positions, copied
from prune_jax.pruning.jaxpr.walk import Node


def dot_axes(node: Node, k: int) -> tuple[Sequence[int], Sequence[int], list[int]]:
    """Batch, contracted and free axes of operand ``k`` of a ``dot_general``."""
    contracted, batch = node.eqn.params["dimension_numbers"]
    rank = len(node.eqn.invars[k].aval.shape)
    free = [axis for axis in range(rank) if axis not in (*contracted[k], *batch[k])]
    return batch[k], contracted[k], free


def dot_rows(array: Any, node: Node, k: int) -> Any:
    """Operand ``k`` of a ``dot_general`` as (blocks, contracted, free)."""
    parts = dot_axes(node, k)
    shape = node.eqn.invars[k].aval.shape
    sizes = [math.prod(shape[axis] for axis in axes) for axes in parts]
    return array.transpose([axis for axes in parts for axis in axes]).reshape(sizes)


def _dot_columns(at: Positions, node: Node, k: int) -> Positions | None:
    batch, _, free = dot_axes(node, k)
    before = len(batch) if k == 0 else len(batch) + len(dot_axes(node, 0)[2])
    picked = _along(at, [*range(len(batch)), *range(before, before + len(free))])
    return None if picked is None else picked.reshape(math.prod(picked.shape[: len(batch)]), -1)


def _along(at: Positions, axes: Sequence[int]) -> Positions | None:
    """The entries along some axes, in order, where the array is a copy along all others."""
    others = [k for k in range(at.ndim) if k not in axes and at.shape[k] > 1]
    if not all(copied(at, k) for k in others):
        return None
    return at[tuple(slice(None) if k in axes else 0 for k in range(at.ndim))]


def _conv_matrices(at: Positions, node: Node, k: int) -> Positions | None:
    p = node.eqn.params
    if k != 1 or p["batch_group_count"] != 1:
        return None
    o, i, *window = p["dimension_numbers"].rhs_spec
    groups = p["feature_group_count"]
    outputs = at.transpose((o, i, *window)).reshape(groups, at.shape[o] // groups, -1)
    return outputs.transpose(0, 2, 1)


def _conv_columns(at: Positions, node: Node, k: int) -> Positions | None:
    p = node.eqn.params
    picked = _along(at, [p["dimension_numbers"].out_spec[1]])
    return None if picked is None else picked.reshape(p["feature_group_count"], -1)


Reader = Callable[[Positions, Node, int], Positions | None]

# By primitive: operand k as (blocks, rows, columns). Of a convolution the blocks are its groups, and the rows the
# input features of a group times the window. None where an equation has no such form.
MATRICES: Mapping[str, Reader] = MappingProxyType(
    {"dot_general": dot_rows, "conv_general_dilated": _conv_matrices}
)
# By primitive: what is added to each output of the kernel in operand k, (blocks, columns), from an array like the
# result. None where it isn't the same for all data.
COLUMNS: Mapping[str, Reader] = MappingProxyType(
    {"dot_general": _dot_columns, "conv_general_dilated": _conv_columns}
)
