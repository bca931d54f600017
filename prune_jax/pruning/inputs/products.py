"""Where every kernel of a network meets data.

The walk over the jaxpr knows which operand of a matrix product or convolution is a weight and which is
data. ``positions`` follows the leaf through transposes and reshapes to that equation, and ``layout``
says which of its axes are summed over. So any traceable network will do, and nothing is registered on
layers.
"""

import collections
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from prune_jax.pruning.inputs.equations import COLUMNS, MATRICES
from prune_jax.pruning.inputs.grid import Grid, Positions
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
      shift: path of the leaf that is added to every output, and 1, or -1 where it is subtracted. None without such a
          leaf.
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
    uses: collections.Counter[Any]  # how often a result is used in its own program


def traced(apply: Callable, params: Any, *inputs: Any) -> Network:
    """Find where the kernels of ``apply(params, *inputs)`` meet data.

    Args:
      apply: any traceable network.
      params: pytree of arrays, or of their shapes and dtypes.
      inputs: the same.

    Returns:
      The network's program, and leaf path -> its products. Left out are kernels that meet data in two ways
      that lie differently in the leaf, in a loop of unknown length, or as a product with other weights.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype), (params, *inputs))
    body = read(apply, shapes[0], shapes[1:]).body
    named = [(path, jnp.shape(leaf)) for path, leaf in leaf_paths(params)]
    seen = _Seen(named, {}, set(), {}, _uses(body, {}))
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


def _uses(body: Body, known: dict[int, Any]) -> collections.Counter[Any]:
    """How often each variable is used. A program that is called several times counts once."""
    if id(body.jaxpr) in known:
        return collections.Counter()
    known[id(body.jaxpr)] = body.jaxpr
    atoms = [atom for node in body.nodes for atom in node.eqn.invars] + list(body.jaxpr.outvars)
    count = collections.Counter(atom for atom in atoms if not isinstance(atom, Literal))
    for inner in (inner for node in body.nodes for inner in node.bodies):
        count.update(_uses(inner, known))
    return count


def shifts_of(network: Network) -> dict[str, tuple[str, int] | None]:
    """For each kernel the leaf that is added to its outputs wherever it is used, and to no other kernel's."""
    shifts = {path: {product.shift for product in found} for path, found in network.products.items()}
    count = collections.Counter(shift for mine in shifts.values() for shift in mine)
    return {
        path: next(iter(mine)) if len(mine) == 1 and all(count[shift] == 1 for shift in mine) else None
        for path, mine in shifts.items()
    }


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
    if not path or seen.uses[atom] > 1:  # what else uses the product would not be shifted
        return
    product, (leaf, shape) = seen.products[path][number], seen.leaves[where.leaf]
    columns = COLUMNS[product.node.eqn.primitive.name](where.at, product.node, product.kernel)
    if columns is None or product.scan != where.scan:
        return
    wide = np.asarray(_stacked(np.asarray(columns)[:, None, :], where))[:, 0]
    own = np.zeros_like(wide)
    own[np.ix_(product.order.blocks, product.order.columns)] = wide
    if np.array_equal(own.reshape(-1), np.arange(math.prod(shape))):
        sign = -1 if node.eqn.primitive.name == "sub" else 1
        seen.products[path][number] = product._replace(shift=(leaf, sign))


def _sorted(places: np.ndarray) -> bool:
    return np.array_equal(places, np.arange(len(places)))


def _stacked(matrices: Positions, where: Where) -> Positions:
    """The blocks of all steps of a scan, one step after another."""
    if where.steps is None:
        return matrices
    if isinstance(matrices, Grid):
        blocks = (where.steps[:, None] + matrices.vectors[0]).reshape(-1)
        return Grid((blocks, *matrices.vectors[1:]), matrices.offset)
    return (where.steps[:, None, None, None] + matrices).reshape(-1, *matrices.shape[1:])
