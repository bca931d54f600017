"""Multiply-accumulates, parameters, activations and bytes, counted from the jaxpr.

Conventions, since the field mixes them: ``macs`` counts one per multiply-accumulate of
convolutions and matrix products and nothing else (no bias, norm, activation or pooling), as in
Table 4 of arXiv 2301.05219. ``2xmacs`` is twice that (its Tables 6 and 7).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from prune_jax.pruning.coupling import Analysis, analyse
from prune_jax.pruning.cutting import shrink
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.jaxpr.walk import Body, live
from prune_jax.pruning.survivors import alive_labels, small_shape

Shape = tuple[int, ...]
CONVENTIONS = {"macs": 1, "2xmacs": 2}


class Cost(NamedTuple):
    """Counts for the inputs as given. Trace with batch 1 for counts per example.

    Attributes:
      macs: multiply-accumulates of convolutions and matrix products, and nothing else.
      params: numbers in the leaves that count as parameters.
      activations: numbers that convolutions and matrix products put out.
      bytes: of all leaves, the inputs and those activations, once each, in their own types.

    Example:
      >>> Cost(macs=20, params=10, activations=2, bytes=88).macs
      20
    """

    macs: int
    params: int
    activations: int
    bytes: int


def flops(cost: Cost, convention: str = "macs") -> int:
    """FLOPs under a named convention. KeyError names the known ones."""
    if convention not in CONVENTIONS:
        raise KeyError(f"unknown convention {convention!r}; known are {', '.join(CONVENTIONS)}")
    return CONVENTIONS[convention] * cost.macs


def trainable(path: str) -> bool:
    """Leaves that count as parameters: all but a 'batch_stats' collection."""
    return path.split("/", 1)[0] != "batch_stats"


def _conv_macs(eqn: Any, lhs: Shape, rhs: Shape, out: Shape) -> int:
    """Kernel elements x output positions / groups. Where the input is dilated, x input positions."""
    p, dims = eqn.params, eqn.params["dimension_numbers"]
    # A transposed convolution multiplies no inserted zeros: each input position meets the kernel once.
    shape, spec = (lhs, dims.lhs_spec) if any(d != 1 for d in p["lhs_dilation"]) else (out, dims.out_spec)
    positions = shape[spec[0]] * math.prod(shape[k] for k in spec[2:])
    return math.prod(rhs) * positions // p["batch_group_count"]


def _dot_macs(eqn: Any, lhs: Shape, rhs: Shape, out: Shape) -> int:
    """Output elements x summed length."""
    (summed, _), _ = eqn.params["dimension_numbers"]
    return math.prod(out) * math.prod(lhs[k] for k in summed)


MACS: dict[str, Callable[[Any, Shape, Shape, Shape], int]] = {
    "conv_general_dilated": _conv_macs,
    "dot_general": _dot_macs,
}


class _Work(NamedTuple):
    macs: int = 0
    activations: int = 0
    bytes: int = 0


def _sum(parts: list[_Work], times: int = 1) -> _Work:
    return _Work(*(times * sum(part[k] for part in parts) for k in range(3)))


def _at(eqn: Any, lhs: Shape, rhs: Shape, out: Shape) -> _Work:
    size = math.prod(out)
    return _Work(
        MACS[eqn.primitive.name](eqn, lhs, rhs, out), size, size * eqn.outvars[0].aval.dtype.itemsize
    )


def _nested(eqn: Any, inner: list[_Work]) -> _Work:
    """Work of an equation that holds jaxprs."""
    if eqn.primitive.name == "while" and any(part.macs for part in inner):
        raise ValueError("apply multiplies matrices in a while loop, whose length the trace doesn't know")
    if eqn.primitive.name == "cond":
        return max(inner)
    return _sum(inner, eqn.params.get("length", 1))


def _jaxprs(eqn: Any) -> list[Any]:
    found = []
    for value in eqn.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr):
                found.append(item.jaxpr)
            elif hasattr(item, "eqns"):
                found.append(item)
    return found


def _of_jaxpr(jaxpr: Any) -> _Work:
    parts = []
    for eqn in live(jaxpr):
        if eqn.primitive.name in MACS:
            parts.append(_at(eqn, *(var.aval.shape for var in (*eqn.invars, *eqn.outvars))))
        else:
            inner = [_of_jaxpr(sub) for sub in _jaxprs(eqn)]
            if inner:
                parts.append(_nested(eqn, inner))
    return _sum(parts)


def _of_body(body: Body, alive: np.ndarray) -> _Work:
    """Count the work of a walked jaxpr, at the sizes that its living labels leave."""
    parts = []
    for node in body.nodes:
        if node.eqn.primitive.name in MACS:
            parts.append(
                _at(node.eqn, *(small_shape(value.axes, alive) for value in (*node.ins, *node.outs)))
            )
        elif node.bodies:
            parts.append(_nested(node.eqn, [_of_body(inner, alive) for inner in node.bodies]))
    return _sum(parts)


def _cost(work: _Work, params: Any, inputs: Any, counted: Callable[[str], bool]) -> Cost:
    size = sum(math.prod(np.shape(leaf)) for path, leaf in leaf_paths(params) if counted(path))
    leaves = [leaf for leaf in jax.tree.leaves((params, inputs)) if hasattr(leaf, "dtype")]
    held = sum(math.prod(leaf.shape) * getattr(leaf.dtype, "itemsize", 0) for leaf in leaves)
    return Cost(work.macs, size, work.activations, held + work.bytes)


def count(apply: Callable, params: Any, *inputs: Any, counted: Callable[[str], bool] = trainable) -> Cost:
    """Cost of ``apply(params, *inputs)``. Nothing is computed, so shapes are enough.

    Work whose result isn't used is left out. Of a ``cond`` the dearer branch counts.

    Args:
      apply: any traceable function.
      params: a pytree of arrays or ``jax.ShapeDtypeStruct``.
      *inputs: arrays or ``jax.ShapeDtypeStruct``. Their batch size is the one that is counted.
      counted: ``counted(path)`` says which leaves are parameters. By default all but a 'batch_stats' collection.

    Returns:
      The counts, as a ``Cost``.

    Raises:
      ValueError: a ``while`` loop multiplies matrices, as the trace doesn't know its length.

    Example:
      >>> import jax.numpy as jnp
      >>> count(lambda w, x: x @ w, jnp.ones((5, 2)), jnp.ones((1, 5))).macs
      10
    """
    return _cost(_of_jaxpr(jax.make_jaxpr(apply)(params, *inputs).jaxpr), params, inputs, counted)


def cost_of_keeps(
    apply: Callable,
    params: Any,
    *inputs: Any,
    counted: Callable[[str], bool] = trainable,
    analysis: Analysis | None = None,
) -> Callable[[Mapping[str, Any]], Cost]:
    """``cost(keep)``: exact cost of the pruned network, from one trace of the dense one.

    The same number as ``count`` of the small network, without building it. It serves searches. ``analysis`` is that of
    ``analyse(apply, params, *inputs)`` where the caller has it already.
    """
    found = analyse(apply, params, *inputs) if analysis is None else analysis
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), params)

    def cost(keep: Mapping[str, Any]) -> Cost:
        alive = alive_labels(found.groups, found.slots, found.classes, keep)
        small = shrink(shapes, found.groups, keep)
        return _cost(_of_body(found.body, alive), small, inputs, counted)

    return cost
