"""Indexing by arrays: constant indices move labels, unknown ones fix the axis they index."""

from typing import Any

import numpy as np

from prune_jax.pruning.jaxpr.labels import Labels, Ledger
from prune_jax.pruning.jaxpr.values import JUNK, LIVE, WILD, Fill, Value, join, origin

UNKNOWN = "indexed by numbers that the trace doesn't know"


def gather_layout(eqn: Any, rank: int) -> tuple[dict[int, int], dict[int, int], list[int]]:
    """(window axis -> result axis, index column of an axis, result axes of the indices)."""
    dims = eqn.params["dimension_numbers"]
    gone = {*dims.collapsed_slice_dims, *dims.operand_batching_dims}
    windows = [axis for axis in range(rank) if axis not in gone]
    batch = [axis for axis in range(len(eqn.outvars[0].aval.shape)) if axis not in dims.offset_dims]
    columns = {axis: column for column, axis in enumerate(dims.start_index_map)}
    return dict(zip(windows, dims.offset_dims, strict=True)), columns, batch


def _column(indices: Value, column: int, size: int) -> np.ndarray | None:
    if indices.known is None:
        return None
    return np.clip(indices.known[..., column], 0, size - 1).astype(np.int64)


def varying_axis(column: np.ndarray) -> int | None:
    """The one axis along which indices vary. None where there is none or more than one."""
    axes = [k for k in range(column.ndim) if (column != column.take([0], k)).any()]
    return axes[0] if len(axes) == 1 else None


def _along(column: np.ndarray, axis: int) -> np.ndarray:
    return column[tuple(slice(None) if k == axis else 0 for k in range(column.ndim))]


def _picked(
    ledger: Ledger, value: Value, indices: Value, axis: int, column: int | None
) -> tuple[int, Labels] | None:
    """Labels that constant indices pick from a collapsed axis, and the index axis they lie along."""
    labels = value.axes[axis]
    if len(labels) == 1 or (labels < 0).all():
        return None
    known = None if column is None else _column(indices, column, len(labels))
    if known is None:
        ledger.freeze(labels, UNKNOWN)
        return None
    along = varying_axis(known)
    if along is None:
        ledger.freeze(labels[np.unique(known)], "channels are picked out by their position")
        return None
    return along, labels[_along(known, along)]


def _window(ledger: Ledger, eqn: Any, value: Value, axis: int, out_size: int) -> Labels:
    labels = value.axes[axis]
    if eqn.params["slice_sizes"][axis] == len(labels):
        return labels
    ledger.freeze(labels, "a window is cut out of this axis")
    return ledger.fixed(out_size, "a window cut out of an axis")


def gather(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Whole windows pass. An indexed axis moves where the indices are constants, else it is fixed."""
    value, indices = ins
    aval, dims = eqn.outvars[0].aval, eqn.params["dimension_numbers"]
    windows, columns, batch = gather_layout(eqn, len(value.shape))
    axes: list[Labels | None] = [None] * len(aval.shape)
    fills: list[Fill] = [LIVE] * len(aval.shape)
    for k, out in enumerate(batch):
        axes[out], fills[out] = indices.axes[k], JUNK
    for axis, out in windows.items():
        axes[out], fills[out] = _window(ledger, eqn, value, axis, aval.shape[out]), value.fills[axis]
        if not indices.weights and indices.known is None:
            ledger.use(value.axes[axis], value.weights, made=True)  # a row of a table makes channels
    for axis, k in zip(dims.operand_batching_dims, dims.start_indices_batching_dims, strict=True):
        out = batch[k]
        axes[out], fills[out] = ledger.couple(value.axes[axis], indices.axes[k]), value.fills[axis]
    moved: dict[int, Labels] = {}
    for axis in dims.collapsed_slice_dims:
        pick = _picked(ledger, value, indices, axis, columns.get(axis))
        if pick is not None:
            along, labels = pick
            moved[along] = ledger.couple(moved[along], labels) if along in moved else labels
            axes[batch[along]] = moved[along]
            fills[batch[along]] = value.fills[axis]
    return [Value(aval, tuple(axes), tuple(fills), **origin(ins))]  # type: ignore[arg-type]


def _starts(ins: list[Value]) -> list[int | None]:
    return [None if v.known is None else int(v.known.reshape(())) for v in ins]


def dynamic_slice(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """A slice where the start is a constant. Otherwise a cut axis is fixed."""
    value, starts = ins[0], _starts(ins[1:])
    axes = []
    for labels, start, size in zip(value.axes, starts, eqn.params["slice_sizes"], strict=True):
        if size == len(labels):
            axes.append(labels)
        elif start is None:
            ledger.freeze(labels, UNKNOWN)
            axes.append(ledger.fixed(size, UNKNOWN))
        else:
            first = min(max(start, 0), len(labels) - size)
            axes.append(labels[first : first + size])
    return [Value(eqn.outvars[0].aval, tuple(axes), value.fills, **origin(ins))]


def dynamic_update_slice(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """The updated part couples with what it replaces."""
    value, update, starts = ins[0], ins[1], _starts(ins[2:])
    for labels, new, start in zip(value.axes, update.axes, starts, strict=True):
        if len(labels) == len(new):
            ledger.couple(labels, new)
        elif start is None:
            ledger.freeze(labels, UNKNOWN)
            ledger.freeze(new, UNKNOWN)
        else:
            first = min(max(start, 0), len(labels) - len(new))
            ledger.couple(labels[first : first + len(new)], new)
    fills = tuple(join([a, b]) for a, b in zip(value.fills, update.fills, strict=True))
    return [Value(eqn.outvars[0].aval, value.axes, fills, **origin(ins))]


def scatter(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Whole windows couple. The indexed axes are fixed."""
    value, indices, update = ins
    dims = eqn.params["dimension_numbers"]
    gone = {*dims.inserted_window_dims, *dims.operand_batching_dims}
    windows = [axis for axis in range(len(value.shape)) if axis not in gone]
    fills: list[Fill] = [JUNK] * len(value.shape)
    for axis, k in zip(windows, dims.update_window_dims, strict=True):
        if len(value.axes[axis]) == len(update.axes[k]):
            ledger.couple(value.axes[axis], update.axes[k])
            fills[axis] = join([value.fills[axis], update.fills[k]])
        else:
            ledger.freeze(value.axes[axis], "a window is written into this axis")
            ledger.freeze(update.axes[k], "a window is written from this axis")
    for axis in gone:
        ledger.freeze(value.axes[axis], "written to by position")
    for k in range(len(update.shape)):
        if k not in dims.update_window_dims:
            ledger.freeze(update.axes[k], "written by position")
    for labels in indices.axes:
        ledger.freeze(labels, "used as indices")
    if eqn.primitive.name != "scatter":  # scatter_add and its like combine old and new
        fills = [0.0 if fill == 0.0 else WILD if fill == WILD else JUNK for fill in fills]
    return [Value(eqn.outvars[0].aval, value.axes, tuple(fills), **origin(ins))]


def top_k(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """The ranked axis is fixed, others pass."""
    value, rank = ins[0], len(ins[0].shape)
    axis = eqn.params.get("axis", eqn.params.get("reduction_dimension", rank - 1)) % rank
    ledger.freeze(value.axes[axis], "ranked along the channels")
    out = []
    for var in eqn.outvars:
        ranked = ledger.fixed(var.aval.shape[axis], "ranks")
        axes = tuple(ranked if k == axis else labels for k, labels in enumerate(value.axes))
        out.append(Value(var.aval, axes, (JUNK,) * len(axes), **origin(ins)))
    return out


SCATTERS = (
    "scatter",
    "scatter-add",
    "scatter_add",
    "scatter-sub",
    "scatter-mul",
    "scatter_mul",
    "scatter-min",
    "scatter_min",
    "scatter-max",
    "scatter_max",
)
RULES = {
    "gather": gather,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    **dict.fromkeys(SCATTERS, scatter),
    "approx_top_k": top_k,
    "top_k": top_k,
}
