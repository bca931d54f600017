"""Where every kernel of a network meets data.

The walk over the jaxpr knows which operand of a matrix product or convolution is a weight and which is
data. ``positions`` follows the leaf through transposes and reshapes to that equation, and ``layout``
says which of its axes are summed over. So any traceable network will do, and nothing is registered on
layers.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from prune_jax.pruning.inputs.layout import Layout, Order, layout_of
from prune_jax.pruning.inputs.positions import Found, Where, follow, start
from prune_jax.pruning.jaxpr.reading import leaf_paths, read
from prune_jax.pruning.jaxpr.values import is_activation
from prune_jax.pruning.jaxpr.walk import Body, Node


class Product(NamedTuple):
    """A kernel that meets data.

    Attributes:
      node: the equation.
      kernel: which of its operands the kernel is.
      layout: the leaf's.
      order: of the equation's blocks, rows and columns in the leaf.
      scan: the id of the scan's node whose steps have a part of the leaf each, or None.
      shift: path of the leaf that is added to every output, and 1, or -1 where it is subtracted; or None.
    """

    node: Node
    kernel: int
    layout: Layout
    order: Order
    scan: int | None
    shift: tuple[str, int] | None = None


class Network(NamedTuple):
    """A traced network, and for each kernel by its path where it meets data, as often as it does."""

    body: Body
    products: dict[str, list[Product]]


class _Seen(NamedTuple):
    """What was found while a program is followed: filled equation by equation."""

    leaves: list[tuple[str, tuple[int, ...]]]
    products: dict[str, list[Product]]
    lost: set[str]
    results: dict[Any, tuple[str, int]]  # an equation's result -> the product that it is


def traced(apply: Callable, params: Any, *inputs: Any) -> Network:
    """Find where the kernels of ``apply(params, *inputs)`` meet data.

    Left out are kernels that meet data in two ways that lie differently in the leaf, in a loop of unknown
    length, or as a product with other weights.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype), (params, *inputs))
    body = read(apply, shapes[0], shapes[1:]).body
    seen = _Seen([(path, jnp.shape(leaf)) for path, leaf in leaf_paths(params)], {}, set(), {})
    leaves = start([shape for _, shape in seen.leaves])
    inputs_lie = [None] * (len(body.jaxpr.invars) - len(leaves))
    follow(body, [*leaves, *inputs_lie], functools.partial(_visit, seen))
    return Network(
        body,
        {
            path: found
            for path, found in seen.products.items()
            if path not in seen.lost and all(one.layout == found[0].layout for one in found)
        },
    )


def shift_of(products: Sequence[Product]) -> tuple[str, int] | None:
    """The leaf that is added to a kernel's outputs wherever it is used, or None."""
    shifts = {product.shift for product in products}
    return shifts.pop() if len(shifts) == 1 else None


def _visit(seen: _Seen, node: Node, ins: Found) -> None:
    name = node.eqn.primitive.name
    if name in MATRICES:
        for k, where in enumerate(ins):
            if where is not None and is_activation(node.ins[1 - k]):
                _product(seen, node, k, where)
    elif name in ("add", "sub", "add_any"):
        for k, where in enumerate(reversed(ins)):
            if where is not None and not (name == "sub" and k == 1):
                _shift(seen, node, k, where)


def _product(seen: _Seen, node: Node, k: int, where: Where) -> None:
    path, shape = seen.leaves[where.leaf]
    matrices = MATRICES[node.eqn.primitive.name](where.at, node, k) if len(shape) > 1 else None
    found = None if matrices is None else layout_of(_stacked(matrices, where), shape)
    if found is None or (where.scan is not None and not _sorted(found[1].blocks)):
        seen.lost.add(path)
        return
    mine = seen.products.setdefault(path, [])
    seen.results[node.eqn.outvars[0]] = path, len(mine)
    mine.append(Product(node, k, *found, where.scan))


def _shift(seen: _Seen, node: Node, k: int, where: Where) -> None:
    """Note the leaf that is added to a product, if it has one entry for each output in the kernel's order."""
    atom = node.eqn.invars[k]
    path, number = ("", 0) if isinstance(atom, Literal) else seen.results.get(atom, ("", 0))
    if not path:
        return
    product, (leaf, shape) = seen.products[path][number], seen.leaves[where.leaf]
    columns = COLUMNS[product.node.eqn.primitive.name](where.at, product)
    if columns is None or product.scan != where.scan:
        return
    wide = _stacked(columns[:, None, :], where)[:, 0]
    own = np.zeros_like(wide)
    own[np.ix_(product.order.blocks, product.order.columns)] = wide
    if np.array_equal(own.reshape(-1), np.arange(math.prod(shape))):
        sign = -1 if node.eqn.primitive.name == "sub" else 1
        seen.products[path][number] = product._replace(shift=(leaf, sign))


def _sorted(places: np.ndarray) -> bool:
    return np.array_equal(places, np.arange(len(places)))


def _stacked(matrices: np.ndarray, where: Where) -> np.ndarray:
    """The blocks of all steps of a scan, one step after another."""
    if where.steps is None:
        return matrices
    return (where.steps[:, None, None, None] + matrices).reshape(-1, *matrices.shape[1:])


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


def _dot_columns(at: np.ndarray, product: Product) -> np.ndarray | None:
    """The position of what is added to each output, (blocks, columns), where it is the same for all data."""
    node, k = product.node, product.kernel
    batch, _, free = dot_axes(node, k)
    before = len(batch) if k == 0 else len(batch) + len(dot_axes(node, 0)[2])
    picked = _along(at, [*range(len(batch)), *range(before, before + len(free))])
    return None if picked is None else picked.reshape(math.prod(picked.shape[: len(batch)]), -1)


def _along(at: np.ndarray, axes: Sequence[int]) -> np.ndarray | None:
    """The entries along some axes, in order, where the array is a copy along all others."""
    others = [k for k in range(at.ndim) if k not in axes and at.shape[k] > 1]
    if any(at.strides[k] for k in others):
        return None
    return at[tuple(slice(None) if k in axes else 0 for k in range(at.ndim))]


def _conv_matrices(at: np.ndarray, node: Node, k: int) -> np.ndarray | None:
    """(groups, input features and window, output features of a group) of a convolution's kernel."""
    p = node.eqn.params
    if k != 1 or p["batch_group_count"] != 1:
        return None
    o, i, *window = p["dimension_numbers"].rhs_spec
    groups = p["feature_group_count"]
    outputs = at.transpose((o, i, *window)).reshape(groups, at.shape[o] // groups, -1)
    return outputs.transpose(0, 2, 1)


def _conv_columns(at: np.ndarray, product: Product) -> np.ndarray | None:
    p = product.node.eqn.params
    picked = _along(at, [p["dimension_numbers"].out_spec[1]])
    return None if picked is None else picked.reshape(p["feature_group_count"], -1)


MATRICES: dict[str, Callable[[np.ndarray, Node, int], np.ndarray | None]] = {
    "dot_general": dot_rows,
    "conv_general_dilated": _conv_matrices,
}
COLUMNS: dict[str, Callable[[np.ndarray, Product], np.ndarray | None]] = {
    "dot_general": _dot_columns,
    "conv_general_dilated": _conv_columns,
}
