"""Sums over what a kernel multiplies, read in one run of the network."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from prune_jax.pruning.gathering.tapped import Probe, Probes, run
from prune_jax.pruning.inputs.equations import dot_axes, dot_rows
from prune_jax.pruning.inputs.layout import Layout
from prune_jax.pruning.inputs.products import Network, Product, shifts_of

STATIC = MappingProxyType({"static": True})  # no array: it stays what it is when the rest is traced


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KernelInput:
    """What a kernel multiplies: sums over all examples and positions, float32 or wider.

    Attributes:
      total, square: (blocks, rows) the sums of x and of x ** 2.
      count: (blocks,) how many inputs x each row had.
      layout: which rows and columns the leaf's weights are.
      shift: path of the leaf that is added to the kernel's outputs (a bias) and 1, or of one that is subtracted (a
        norm's running mean) and -1. None without such a leaf.
    """

    total: Any
    square: Any
    count: Any
    layout: Layout = dataclasses.field(metadata=STATIC)
    shift: tuple[str, int] | None = dataclasses.field(default=None, metadata=STATIC)

    @property
    def mean(self) -> Any:
        """(blocks, rows) the mean input."""
        return self.total / self.count[:, None]

    @property
    def norm(self) -> Any:
        """(blocks, rows) the root of the sum of the squared inputs."""
        return self.square**0.5

    @property
    def variance(self) -> Any:
        """(blocks, rows) the variance of the inputs. 0 where rounding would make it negative."""
        return (self.square / self.count[:, None] - self.mean**2).clip(0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class InputGram:
    """How a kernel's inputs go together.

    Attributes:
      matrix: (blocks, rows, rows) the sum of x x^T over all examples and positions, float32 or wider.
      count: (blocks,) how many inputs x it sums.
      layout: which rows and columns the leaf's weights are.
    """

    matrix: Any
    count: Any
    layout: Layout = dataclasses.field(metadata=STATIC)


def kernel_sums(
    network: Network, args: Sequence[Any], *, grams: bool
) -> tuple[dict[str, KernelInput], dict[str, InputGram]]:
    """Sums over what every kernel multiplies in one run of the network.

    Args:
      network: from ``traced``.
      args: the leaves of params and inputs.
      grams: whether the Gram matrices are wanted too.

    Returns:
      Leaf path -> ``KernelInput``, and leaf path -> ``InputGram``. The second is empty without ``grams``. A kernel that
      is used several times counts each time. The padding of a convolution counts as zeros that its kernel multiplies.
    """
    probes: Probes = {}
    for path, products in network.products.items():
        for product in products:
            mine = probes.setdefault(id(product.node), [])
            mine.append(Probe(f"sums:{path}", functools.partial(_input_sums, product), product.scan))
            if grams:
                mine.append(Probe(f"gram:{path}", functools.partial(_gram, product), product.scan))
    found = run(network.body, list(args), probes)[1]
    inputs, shifts = {}, shifts_of(network)
    for path, products in network.products.items():
        total, square, count = found[f"sums:{path}"]
        inputs[path] = KernelInput(total, square, count, products[0].layout, shifts[path])
    of_grams = {
        path: InputGram(found[f"gram:{path}"], each.count, each.layout)
        for path, each in inputs.items()
        if grams
    }
    return inputs, of_grams


def _wide(x: Any) -> Any:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _is_dot(product: Product) -> bool:
    return product.node.eqn.primitive.name == "dot_general"


def _data(product: Product, ins: Sequence[Any]) -> Any:
    return _wide(ins[1 - product.kernel])


def _patches(x: Any, product: Product) -> Any:
    """What each output of a convolution sums over: (groups, rows, examples, positions of the output)."""
    p, aval = product.node.eqn.params, product.node.eqn.invars[1].aval
    dims = p["dimension_numbers"]
    found = lax.conv_general_dilated_patches(
        x.transpose(dims.lhs_spec),
        [aval.shape[axis] for axis in dims.rhs_spec[2:]],
        p["window_strides"],
        p["padding"],
        p["lhs_dilation"],
        p["rhs_dilation"],
        precision=lax.Precision.HIGHEST,  # each entry is a copy, and must stay one
    )
    groups, (examples, rows) = p["feature_group_count"], found.shape[:2]
    return jnp.moveaxis(found, 0, 1).reshape(groups, rows // groups, examples, -1)


def _summed(product: Product, x: Any) -> Any:
    """(blocks, rows) the sum of the data over all entries. Windows are cut from the sum of all examples."""
    if _is_dot(product):
        return dot_rows(x, product.node, 1 - product.kernel).sum(-1)
    example = product.node.eqn.params["dimension_numbers"].lhs_spec[0]
    return _patches(x.sum(example, keepdims=True), product).sum((2, 3))


def _entries(product: Product) -> int:
    """How many inputs each row has in one run."""
    eqn = product.node.eqn
    if _is_dot(product):
        k = 1 - product.kernel
        return math.prod(eqn.invars[k].aval.shape[axis] for axis in dot_axes(product.node, k)[2])
    spec = eqn.params["dimension_numbers"].out_spec
    return math.prod(eqn.outvars[0].aval.shape[axis] for axis in (spec[0], *spec[2:]))


def _own_order(product: Product, array: Any) -> Any:
    """(blocks, rows, ...) in the leaf's order. The steps of a scan have a block each and come in its order."""
    rows = np.argsort(product.order.rows)
    blocks = np.arange(len(array)) if product.scan is not None else np.argsort(product.order.blocks)
    return array[blocks[:, None], rows]


def _input_sums(product: Product, ins: list[Any], _: list[Any]) -> tuple[Any, Any, Any]:
    x = _data(product, ins)
    total, square = (_own_order(product, _summed(product, each)) for each in (x, x * x))
    return total, square, jnp.full(len(total), _entries(product), total.dtype)


def _gram(product: Product, ins: list[Any], _: list[Any]) -> Any:
    x = _data(product, ins)
    rows = dot_rows(x, product.node, 1 - product.kernel) if _is_dot(product) else _patches(x, product)
    rows = _own_order(product, rows.reshape(*rows.shape[:2], -1))
    return jnp.einsum("bke,ble->bkl", rows, rows, precision=lax.Precision.HIGHEST)
