"""Primitives that move, copy or drop whole indices: labels go where the numbers go."""

from typing import Any

import numpy as np

from prune_jax.pruning.jaxpr.labels import Labels, Ledger, is_fixed, uniform
from prune_jax.pruning.jaxpr.values import KNOWN_LIMIT, LIVE, Fill, Value, constant_fill, join, origin


def broadcast_in_dim(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """New and stretched axes hold copies, so their indices are free until something ties them."""
    value, aval = ins[0], eqn.outvars[0].aval
    same = constant_fill(value.known)
    axes: list[Labels | None] = [None] * len(aval.shape)
    fills: list[Fill] = [same] * len(aval.shape)
    for source, target in enumerate(eqn.params["broadcast_dimensions"]):
        if value.shape[source] == aval.shape[target]:
            axes[target], fills[target] = value.axes[source], value.fills[source]
        elif value.axes[source][0] >= 0:
            ledger.freeze(value.axes[source], "one channel is copied along a new axis")
    done = tuple(
        (ledger.fixed(size, "single index") if size == 1 else ledger.fresh(size)) if axis is None else axis
        for axis, size in zip(axes, aval.shape, strict=True)
    )
    known = None
    if value.known is not None and aval.size <= KNOWN_LIMIT:
        shape = [1] * len(aval.shape)
        for source, target in enumerate(eqn.params["broadcast_dimensions"]):
            shape[target] = value.shape[source]
        known = np.broadcast_to(value.known.reshape(shape), aval.shape)
    return [Value(aval, done, tuple(fills), known, total=value.total, **origin(ins))]


def transpose(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Axes change places."""
    value, order = ins[0], eqn.params["permutation"]
    return [
        Value(
            eqn.outvars[0].aval,
            tuple(value.axes[k] for k in order),
            tuple(value.fills[k] for k in order),
            None if value.known is None else value.known.transpose(order),
            total=value.total,
            **origin(ins),
        )
    ]


def squeeze(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Axes of size 1 go. A channel alone on such an axis was picked by position and is frozen."""
    value, gone = ins[0], set(eqn.params["dimensions"])
    for k in gone:
        if value.axes[k][0] >= 0:
            ledger.freeze(value.axes[k], "one channel is picked out by its position")
    stay = [k for k in range(len(value.shape)) if k not in gone]
    return [
        Value(
            eqn.outvars[0].aval,
            tuple(value.axes[k] for k in stay),
            tuple(value.fills[k] for k in stay),
            None if value.known is None else value.known.squeeze(tuple(gone)),
            total=value.total,
            **origin(ins),
        )
    ]


def _couple_other_axes(ledger: Ledger, ins: list[Value], axis: int) -> tuple[list[Labels], list[Fill]]:
    axes, fills = list(ins[0].axes), list(ins[0].fills)
    for value in ins[1:]:
        for k, labels in enumerate(value.axes):
            if k != axis:
                axes[k] = ledger.couple(axes[k], labels)
                fills[k] = join([fills[k], value.fills[k]])
    return axes, fills


def _chain(parts: list[Labels]) -> Labels:
    """Labels of concatenated axes. One number where all are fixed alike."""
    if len(parts) == 1:
        return parts[0]
    if all(is_fixed(part) for part in parts):
        return uniform(parts[0][0], sum(len(part) for part in parts))
    return np.concatenate(parts)


def concatenate(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Labels are concatenated too."""
    axis = eqn.params["dimension"]
    ins_full = [value for value in ins if value.shape[axis]] or ins[:1]
    axes, fills = _couple_other_axes(ledger, ins_full, axis)
    axes[axis] = _chain([value.axes[axis] for value in ins_full])
    moving = [value.fills[axis] for value in ins_full if not is_fixed(value.axes[axis])]
    fills[axis] = join(moving) if moving else LIVE
    known = None
    if all(value.known is not None for value in ins_full):
        known = np.concatenate([value.known for value in ins_full], axis)
    return [Value(eqn.outvars[0].aval, tuple(axes), tuple(fills), known, **origin(ins))]


def stack(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Operands side by side along a new axis, whose indices are told apart by their place: it can't be cut."""
    axis, aval = eqn.params["axis"], eqn.outvars[0].aval
    axes, fills = _couple_other_axes(ledger, ins, -1)
    axes.insert(axis, ledger.fixed(len(ins), "operands are stacked along this axis"))
    fills.insert(axis, LIVE)
    numbers = [value.known for value in ins if value.known is not None]
    known = np.stack(numbers, axis) if len(numbers) == len(ins) else None
    return [Value(aval, tuple(axes), tuple(fills), known, **origin(ins))]


def unstack(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """One result per index of an axis, told apart by its place."""
    value, axis = ins[0], eqn.params["axis"]
    ledger.freeze(value.axes[axis], "its indices are taken apart by their position")
    rest = [k for k in range(len(value.shape)) if k != axis]
    axes, fills = tuple(value.axes[k] for k in rest), tuple(value.fills[k] for k in rest)
    parts = [None] * len(eqn.outvars) if value.known is None else np.moveaxis(value.known, axis, 0)
    return [
        Value(var.aval, axes, fills, known, **origin(ins))
        for var, known in zip(eqn.outvars, parts, strict=True)
    ]


def _indexed(value: Value, aval: Any, index: tuple) -> Value:
    """The value after basic numpy indexing with one slice per axis."""
    labels = tuple(a[i] for a, i in zip(value.axes, index, strict=True))
    known = None if value.known is None else value.known[index]
    return Value(aval, labels, value.fills, known, **origin([value]))


def slice_(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Labels are sliced too."""
    p = eqn.params
    strides = p["strides"] or (1,) * len(p["start_indices"])
    index = tuple(map(slice, p["start_indices"], p["limit_indices"], strides))
    return [_indexed(ins[0], eqn.outvars[0].aval, index)]


def rev(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Labels are reversed too."""
    turned = eqn.params["dimensions"]
    index = tuple(slice(None, None, -1 if k in turned else 1) for k in range(len(ins[0].shape)))
    return [_indexed(ins[0], eqn.outvars[0].aval, index)]


def split(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Several slices along one axis."""
    value, axis = ins[0], eqn.params["axis"]
    ends = np.cumsum(eqn.params["sizes"])
    out = []
    for var, end, size in zip(eqn.outvars, ends, eqn.params["sizes"], strict=True):
        index = tuple(slice(end - size, end) if k == axis else slice(None) for k in range(len(value.shape)))
        out.append(_indexed(value, var.aval, index))
    return out


def tile(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Labels are repeated as the numbers are."""
    value, reps = ins[0], eqn.params["reps"]
    same, axes, fills = constant_fill(value.known), [], []
    for labels, fill, n in zip(value.axes, value.fills, reps, strict=True):
        if len(labels) == 1 and n > 1:  # copies of one index: as in broadcast_in_dim
            ledger.freeze(labels, "one channel is copied along an axis")
            axes.append(ledger.fresh(n))
            fills.append(same)
        else:
            axes.append(_chain([labels] * n))
            fills.append(fill)
    known = None if value.known is None else np.tile(value.known, reps)
    return [Value(eqn.outvars[0].aval, tuple(axes), tuple(fills), known, **origin(ins))]


def _padded(ledger: Ledger, labels: Labels, config: tuple[int, int, int]) -> Labels:
    """Padding is constant along the axis, so a padded index is free until something ties it."""
    low, high, inside = config
    if is_fixed(labels):
        size = len(labels) + low + high + max(len(labels) - 1, 0) * inside
        return uniform(labels[0], size)
    core = labels
    if inside:
        core = ledger.fresh(len(labels) + (len(labels) - 1) * inside)
        core[:: inside + 1] = labels
    core = core[max(-low, 0) : len(core) - max(-high, 0)]
    return np.concatenate([ledger.fresh(max(low, 0)), core, ledger.fresh(max(high, 0))])


def pad(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Padded indices of a channel axis are channels of their own."""
    value, filler = ins
    axes, fills = [], []
    padding = constant_fill(filler.known)
    for k, config in enumerate(eqn.params["padding_config"]):
        config = tuple(int(c) for c in config)
        axes.append(_padded(ledger, value.axes[k], config) if any(config) else value.axes[k])
    # Padding of any axis shows at the masked positions of all others.
    fills = [join([fill, padding]) for fill in value.fills]
    return [Value(eqn.outvars[0].aval, tuple(axes), tuple(fills), **origin(ins))]


def iota(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """A table that counts along one axis, like a constant: each index keeps its number when others are cut."""
    aval, axis = eqn.outvars[0].aval, eqn.params["dimension"]
    axes = tuple(
        ledger.fixed(size, "single index") if size == 1 else ledger.fresh(size) for size in aval.shape
    )
    known = None
    if aval.size <= KNOWN_LIMIT:
        shape = [1] * len(aval.shape)
        shape[axis] = aval.shape[axis]
        known = np.broadcast_to(np.arange(aval.shape[axis]).astype(aval.dtype).reshape(shape), aval.shape)
    return [Value(aval, axes, (LIVE,) * len(axes), known)]


RULES = {
    "broadcast_in_dim": broadcast_in_dim,
    "transpose": transpose,
    "squeeze": squeeze,
    "concatenate": concatenate,
    "stack": stack,
    "unstack": unstack,
    "slice": slice_,
    "rev": rev,
    "split": split,
    "tile": tile,
    "pad": pad,
    "iota": iota,
}
