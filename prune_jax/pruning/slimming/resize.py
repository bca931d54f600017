"""Primitives whose parameters or constants speak of sizes, evaluated on cut arrays.

Each function takes the walked node, the small operands and the living labels, and returns the
small results. Primitives that aren't in the table run as they are.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from prune_jax.pruning.jaxpr.labels import Labels
from prune_jax.pruning.jaxpr.rules_index import gather_layout, varying_axis
from prune_jax.pruning.survivors import is_cut, small_shape, stays

Arrays = list[Any]


def _rank(labels: Labels, alive: np.ndarray) -> np.ndarray:
    """New position of each old position that stays (-1 for those that go)."""
    living = stays(labels, alive)
    return np.where(living, np.cumsum(living) - 1, -1)


def take(x: Any, index: np.ndarray, axis: int) -> Any:
    """Constant positions along an axis: a slice where they are evenly spaced, else a gather."""
    size = x.shape[axis]
    if len(index) == size and (index == np.arange(size)).all():
        return x
    steps = np.unique(np.diff(index))
    if len(index) and (len(index) == 1 or (len(steps) == 1 and steps[0] > 0)):
        step = int(steps[0]) if len(index) > 1 else 1
        return lax.slice_in_dim(x, int(index[0]), int(index[-1]) + 1, step, axis)
    return jnp.take(x, jnp.asarray(index), axis, mode="clip")


def _mapped(node: Any, x: Any, alive: np.ndarray, sources: list[np.ndarray]) -> Any:
    """Result whose position p along an axis is position sources[axis][p] of the operand."""
    value, out = node.ins[0], node.outs[0]
    for axis, source in enumerate(sources):
        wanted = source[stays(out.axes[axis], alive)]
        x = take(x, _rank(value.axes[axis], alive)[wanted], axis)
    return x


def _slice(node: Any, ins: Arrays, alive: np.ndarray) -> Arrays:
    p = node.eqn.params
    strides = p["strides"] or (1,) * len(p["start_indices"])
    bounds = zip(p["start_indices"], p["limit_indices"], strides, strict=True)
    return [_mapped(node, ins[0], alive, [np.arange(*bound) for bound in bounds])]


def _split(node: Any, ins: Arrays, alive: np.ndarray) -> Arrays:
    axis, sizes = node.eqn.params["axis"], node.eqn.params["sizes"]
    kept = [small_shape(out.axes, alive)[axis] for out in node.outs]
    ends = np.cumsum(kept)
    assert len(kept) == len(sizes)
    return [
        lax.slice_in_dim(ins[0], int(end - n), int(end), 1, axis) for end, n in zip(ends, kept, strict=True)
    ]


def _tile(node: Any, ins: Arrays, alive: np.ndarray) -> Arrays:
    # Copies of an axis share labels, so each copy is cut alike. Copies of one index are cut one by one.
    new = small_shape(node.outs[0].axes, alive)
    old = node.ins[0].shape
    reps = [n if size == 1 else rep for n, size, rep in zip(new, old, node.eqn.params["reps"], strict=True)]
    return [jnp.tile(ins[0], reps)]


def _pad_sources(size: int, config: tuple[int, int, int]) -> np.ndarray:
    """Source of each padded position, -1 for padding."""
    low, high, inside = config
    spread = np.full(size + max(size - 1, 0) * inside, -1)
    spread[:: inside + 1] = np.arange(size)
    spread = spread[max(-low, 0) : len(spread) - max(-high, 0)]
    return np.concatenate([np.full(max(low, 0), -1), spread, np.full(max(high, 0), -1)])


def _pad(node: Any, ins: Arrays, alive: np.ndarray) -> Arrays:
    x, filler = ins
    value, out = node.ins[0], node.outs[0]
    config = [(int(low), int(high), int(inside)) for low, high, inside in node.eqn.params["padding_config"]]
    cut = [is_cut(a, alive) or is_cut(b, alive) for a, b in zip(value.axes, out.axes, strict=True)]
    for axis in [k for k, c in enumerate(cut) if c]:
        if any(config[axis]):
            source = _pad_sources(value.shape[axis], config[axis])[stays(out.axes[axis], alive)]
            ranks = np.append(
                _rank(value.axes[axis], alive), x.shape[axis]
            )  # -1: one padded position at the end
            extra = [(0, 1 if k == axis else 0, 0) for k in range(x.ndim)]
            x = take(lax.pad(x, filler, extra), ranks[source], axis)
    return [lax.pad(x, filler, [(0, 0, 0) if c else item for c, item in zip(cut, config, strict=True)])]


def _broadcast_in_dim(node: Any, ins: Arrays, alive: np.ndarray) -> Arrays:
    shape = small_shape(node.outs[0].axes, alive)
    return [lax.broadcast_in_dim(ins[0], shape, node.eqn.params["broadcast_dimensions"])]


def _reshape(node: Any, ins: Arrays, alive: np.ndarray) -> Arrays:
    return [lax.reshape(ins[0], small_shape(node.outs[0].axes, alive))]


def _iota(node: Any, ins: Arrays, alive: np.ndarray) -> Arrays:
    """Counted at the dense size. Then what is left keeps its numbers."""
    out, axis = node.outs[0], node.eqn.params["dimension"]
    shape = list(small_shape(out.axes, alive))
    shape[axis] = out.aval.shape[axis]
    counted = lax.broadcasted_iota(out.aval.dtype, tuple(shape), axis)
    return [take(counted, np.flatnonzero(stays(out.axes[axis], alive)), axis)]


def cut_whole(x: Any, axes: Any, alive: np.ndarray) -> Any:
    """An array of the dense size without the positions that go. A constant of the trace stays one."""
    for axis, labels in enumerate(axes):
        if is_cut(labels, alive):
            index = np.flatnonzero(stays(labels, alive))
            x = take(x, index, axis) if isinstance(x, jax.Array) else np.asarray(x).take(index, axis)
    return x


def _random_bits(node: Any, ins: Arrays, alive: np.ndarray) -> Arrays:
    """The dense draw, of which the channels that stay keep their numbers."""
    (bits,) = bind(node.eqn, ins)
    return [cut_whole(bits, node.outs[0].axes, alive)]


def _conv_general_dilated(node: Any, ins: Arrays, alive: np.ndarray) -> Arrays:
    p = dict(node.eqn.params)
    lhs, rhs = ins
    dims = p["dimension_numbers"]
    if p["feature_group_count"] > 1:
        p["feature_group_count"] = lhs.shape[dims.lhs_spec[1]] // rhs.shape[dims.rhs_spec[1]]
    return [node.eqn.primitive.bind(lhs, rhs, **p)]


def _dynamic_slice(node: Any, ins: Arrays, alive: np.ndarray) -> Arrays:
    value, out = node.ins[0], node.outs[0]
    x, sizes = ins[0], list(node.eqn.params["slice_sizes"])
    starts = list(ins[1:])
    for axis, (old, new) in enumerate(zip(value.axes, out.axes, strict=True)):
        if not is_cut(old, alive):
            continue
        first = 0
        if len(old) != len(new):  # a constant start, or the rule would have frozen the axis
            start = int(node.ins[1 + axis].known.reshape(()))
            first = min(max(start, 0), len(old) - len(new))
        source = np.arange(first, first + len(new))[stays(new, alive)]
        x = take(x, _rank(old, alive)[source], axis)
        sizes[axis], starts[axis] = len(source), jnp.zeros((), starts[axis].dtype)
    return [lax.dynamic_slice(x, starts, sizes)]


def _dynamic_update_slice(node: Any, ins: Arrays, alive: np.ndarray) -> Arrays:
    x, update, *starts = ins
    for axis, labels in enumerate(node.ins[0].axes):
        if is_cut(labels, alive) and len(labels) != node.ins[1].shape[axis]:
            start = int(node.ins[2 + axis].known.reshape(()))
            first = min(max(start, 0), len(labels) - node.ins[1].shape[axis])
            starts[axis] = jnp.asarray(int(stays(labels, alive)[:first].sum()), starts[axis].dtype)
    return [lax.dynamic_update_slice(x, update, starts)]


def _gather(node: Any, ins: Arrays, alive: np.ndarray) -> Arrays:
    eqn, value, indices = node.eqn, node.ins[0], node.ins[1]
    p, dims = dict(eqn.params), eqn.params["dimension_numbers"]
    windows, columns, batch = gather_layout(eqn, len(value.shape))
    out = node.outs[0]
    new = ins[1]
    if indices.known is not None:
        new = indices.known
        for axis in dims.collapsed_slice_dims:
            column = columns.get(axis)
            if column is not None and is_cut(value.axes[axis], alive):
                old = np.clip(indices.known[..., column], 0, value.shape[axis] - 1)
                if varying_axis(old) is not None:
                    new = new.copy()
                    new[..., column] = _rank(value.axes[axis], alive)[old]
        for k, axis in enumerate(batch):
            new = new.compress(stays(out.axes[axis], alive), axis=k)
    p["slice_sizes"] = tuple(
        ins[0].shape[k] if k in windows and size == value.shape[k] else size
        for k, size in enumerate(p["slice_sizes"])
    )
    return [eqn.primitive.bind(ins[0], jnp.asarray(new), **p)]


RESIZE: dict[str, Callable[[Any, Arrays, np.ndarray], Arrays]] = {
    "slice": _slice,
    "split": _split,
    "tile": _tile,
    "pad": _pad,
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "iota": _iota,
    "random_bits": _random_bits,
    "conv_general_dilated": _conv_general_dilated,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
}


def bind(eqn: Any, ins: Arrays) -> Arrays:
    """The equation as traced, on these operands."""
    params = eqn.primitive.get_bind_params(eqn.params)
    out = eqn.primitive.bind(*ins, **params)
    return list(out) if eqn.primitive.multiple_results else [out]
