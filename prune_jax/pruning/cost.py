"""Multiply-accumulates, parameters, activations and bytes, counted from the jaxpr.

Conventions, since the field mixes them: ``macs`` counts one per multiply-accumulate of
convolutions and matrix products and nothing else (no bias, norm, activation or pooling), as in
Table 4 of arXiv 2301.05219; ``2xmacs`` is twice that (its Tables 6 and 7).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from prune_jax.pruning.jaxpr.reading import leaf_paths

CONVENTIONS = {"macs": 1, "2xmacs": 2}


class Cost(NamedTuple):
    """Counts for the inputs as given (trace with batch 1 for counts per example).

    ``activations``: numbers that convolutions and matrix products put out. ``bytes``: all leaves,
    inputs and those activations once, in their own types.
    """

    macs: int
    params: int
    activations: int
    bytes: int


def flops(cost: Cost, convention: str = "macs") -> int:
    """FLOPs under a named convention; KeyError names the known ones."""
    if convention not in CONVENTIONS:
        raise KeyError(f"unknown convention {convention!r}; known are {', '.join(CONVENTIONS)}")
    return CONVENTIONS[convention] * cost.macs


def trainable(path: str) -> bool:
    """Leaves that count as parameters: all but a 'batch_stats' collection."""
    return path.split("/", 1)[0] != "batch_stats"


def conv_macs(eqn: Any) -> int:
    """Kernel elements x output positions / groups; x input positions where the input is dilated."""
    lhs, rhs = (var.aval.shape for var in eqn.invars)
    out, p = eqn.outvars[0].aval.shape, eqn.params
    dims = p["dimension_numbers"]
    # A transposed convolution multiplies no inserted zeros: each input position meets the kernel once.
    shape, spec = (lhs, dims.lhs_spec) if any(d != 1 for d in p["lhs_dilation"]) else (out, dims.out_spec)
    positions = shape[spec[0]] * math.prod(shape[k] for k in spec[2:])
    return math.prod(rhs) * positions // p["batch_group_count"]


def dot_macs(eqn: Any) -> int:
    """Output elements x summed length."""
    (summed, _), _ = eqn.params["dimension_numbers"]
    lhs = eqn.invars[0].aval.shape
    return math.prod(eqn.outvars[0].aval.shape) * math.prod(lhs[k] for k in summed)


MACS: dict[str, Callable[[Any], int]] = {"conv_general_dilated": conv_macs, "dot_general": dot_macs}


def _jaxprs(eqn: Any) -> list[Any]:
    found = []
    for value in eqn.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr):
                found.append(item.jaxpr)
            elif hasattr(item, "eqns"):
                found.append(item)
    return found


def _walk(jaxpr: Any) -> np.ndarray:
    """(macs, activations, activation bytes) of a jaxpr."""
    total = np.zeros(3, np.int64)
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in MACS:
            out = eqn.outvars[0].aval
            total += (MACS[eqn.primitive.name](eqn), out.size, out.size * out.dtype.itemsize)
            continue
        inner = [_walk(sub) for sub in _jaxprs(eqn)]
        if eqn.primitive.name == "while" and any(part[0] for part in inner):
            raise ValueError("apply multiplies matrices in a while loop, whose length the trace doesn't know")
        if eqn.primitive.name == "cond":
            total += max(inner, key=lambda part: part[0])
        else:
            total += sum(inner, np.zeros(3, np.int64)) * eqn.params.get("length", 1)
    return total


def _bytes(leaf: Any) -> int:
    return int(np.prod(leaf.shape)) * getattr(leaf.dtype, "itemsize", 0)


def count(apply: Callable, params: Any, *inputs: Any, counted: Callable[[str], bool] = trainable) -> Cost:
    """Cost of ``apply(params, *inputs)``; nothing is computed, so shapes are enough.

    ``counted(path)`` says which leaves are parameters. Of a ``cond`` the dearer branch counts; a
    ``while`` loop that multiplies matrices raises ValueError.
    """
    macs, activations, moved = (int(x) for x in _walk(jax.make_jaxpr(apply)(params, *inputs).jaxpr))
    leaves = leaf_paths(params)
    size = sum(int(np.prod(np.shape(leaf))) for path, leaf in leaves if counted(path))
    held = sum(_bytes(leaf) for leaf in jax.tree.leaves((params, inputs)) if hasattr(leaf, "dtype"))
    return Cost(macs, size, activations, held + moved)
