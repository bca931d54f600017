"""Reshape: axes are merged and split, and labels follow every index.

Merging a channel axis with axes that can't be cut (an NHWC flatten) repeats its labels. Where
two axes that could both be cut are merged, or one is split so that its channels vary along two
parts (heads x head size, norm groups x channels of a group), the result must stay a full
product, so channels can run along one part only; the ledger keeps the choice open (``Split``)
and ``solve`` makes it.
"""

from typing import Any

import numpy as np

from prune_jax.pruning.labels import Labels, Ledger, is_fixed
from prune_jax.pruning.values import LIVE, Fill, Value, join, origin

AXIS_LIMIT = 1 << 24  # labels of a longer merged axis aren't worth their memory


def _never(labels: Labels) -> bool:
    return is_fixed(labels) or bool((labels < 0).all())


def _varies(grid: np.ndarray, axis: int) -> bool:
    return bool((grid != grid.take([0], axis)).any())


def split_axis(ledger: Ledger, labels: Labels, shape: tuple[int, ...]) -> tuple[Labels, ...]:
    """Labels of the parts when an axis is read as ``shape``."""
    if is_fixed(labels):
        return tuple(np.broadcast_to(labels[0], (size,)) for size in shape)
    key = (id(labels), shape)
    if key in ledger.products:
        return ledger.products[key]
    grid = labels.reshape(shape)
    vary = [k for k, size in enumerate(shape) if size > 1 and _varies(grid, k)]
    inside = [
        None if k in vary else ledger.fixed(size, "runs inside a channel") for k, size in enumerate(shape)
    ]
    if not vary:
        ledger.freeze(labels, "a reshape splits a single channel")
        return tuple(inside)
    core = grid[tuple(slice(None) if k in vary else 0 for k in range(len(shape)))]
    if len(vary) == 1:
        parts = (core,)
    else:
        parts = tuple(ledger.fresh(shape[k]) for k in vary)
        ledger.split(core, parts)
    rest = iter(parts)
    out = tuple(next(rest) if known is None else known for known in inside)
    ledger.products[key] = out
    ledger.products[tuple(map(id, out))] = labels
    ledger.keep_alive(labels, *out)
    return out


def merge_axes(ledger: Ledger, axes: tuple[Labels, ...]) -> Labels:
    """Labels of the axis that several axes are flattened to."""
    if len(axes) == 1:
        return axes[0]
    shape = tuple(len(axis) for axis in axes)
    size = int(np.prod(shape))
    carriers = [k for k, axis in enumerate(axes) if not _never(axis)]
    if carriers and size > AXIS_LIMIT:
        for k in carriers:
            ledger.freeze(axes[k], f"merged axis of {size} indices is too long to follow")
        return ledger.fixed(size, "merged axis is too long to follow")
    if not carriers:
        return np.broadcast_to(axes[0][0], (size,))
    if tuple(map(id, axes)) in ledger.products:
        return ledger.products[tuple(map(id, axes))]
    core_shape = tuple(shape[k] for k in carriers)
    if len(carriers) == 1:
        core = axes[carriers[0]]
    else:
        core = ledger.fresh(int(np.prod(core_shape))).reshape(core_shape)
        ledger.split(core, tuple(axes[k] for k in carriers))
    wide = core.reshape(tuple(size if k in carriers else 1 for k, size in enumerate(shape)))
    out = np.broadcast_to(wide, shape).reshape(-1)
    ledger.products[tuple(map(id, axes))] = out
    ledger.products[(id(out), shape)] = axes
    ledger.keep_alive(out, *axes)
    return out


def _segments(old: list[int], new: list[int], before, after):
    """Smallest runs of axes whose sizes multiply to the same number."""
    i = j = 0
    while i < len(old):
        run_i, run_j = [old[i]], [new[j]]
        left, right = before[old[i]], after[new[j]]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left *= before[old[i]]
                run_i.append(old[i])
                i += 1
            else:
                right *= after[new[j]]
                run_j.append(new[j])
                j += 1
        yield run_i, run_j


def _drop_single(ledger: Ledger, value: Value, axis: int) -> None:
    if value.axes[axis].size and value.axes[axis][0] >= 0:
        ledger.freeze(value.axes[axis], "one channel is picked out by its position")


def reshape(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Follow every index through merged and split axes."""
    value, aval = ins[0], eqn.outvars[0].aval
    new = aval.shape
    axes: list[Labels | None] = [None] * len(new)
    fills: list[Fill] = [LIVE] * len(new)
    known = None if value.known is None else value.known.reshape(new)
    if 0 in value.shape:
        raise ValueError("an array of size 0 is reshaped; find_groups reads networks on non-empty inputs")
    old = [k for k, size in enumerate(value.shape) if size != 1]
    for k in set(range(len(value.shape))) - set(old):
        _drop_single(ledger, value, k)
    for run_i, run_j in _segments(old, [k for k, size in enumerate(new) if size != 1], value.shape, new):
        whole = merge_axes(ledger, tuple(value.axes[k] for k in run_i))
        moving = [value.fills[k] for k in run_i if not _never(value.axes[k])]
        parts = (whole,) if len(run_j) == 1 else split_axis(ledger, whole, tuple(new[k] for k in run_j))
        for k, part in zip(run_j, parts, strict=True):
            axes[k], fills[k] = part, join(moving) if moving else LIVE
    single = [ledger.fixed(1, "single index") if axis is None else axis for axis in axes]
    return [Value(aval, tuple(single), tuple(fills), known, total=value.total, **origin(ins))]


RULES = {"reshape": reshape}
