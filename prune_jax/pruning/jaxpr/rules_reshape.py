"""Reshape: axes are merged and split, and labels follow every index.

Merging a channel axis with axes that can't be cut (an NHWC flatten) repeats its labels. Where
two axes that could both be cut are merged, or one is split so that its channels vary along two
parts (heads x head size, norm groups x channels of a group), the result must stay a full
product, so channels can run along one part only. The ledger keeps the choice open (``Split``)
and ``solve`` makes it.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from prune_jax.pruning.jaxpr.labels import Labels, Ledger, is_fixed, uniform
from prune_jax.pruning.jaxpr.values import LIVE, WILD, Fill, Value, origin

AXIS_LIMIT = 1 << 24  # labels of a longer merged axis aren't worth their memory


def _never(labels: Labels) -> bool:
    return is_fixed(labels) or bool((labels < 0).all())


def _varies(grid: np.ndarray, axis: int) -> bool:
    return bool((grid != grid.take([0], axis)).any())


def split_axis(ledger: Ledger, labels: Labels, shape: tuple[int, ...]) -> tuple[Labels, ...]:
    """Labels of the parts when an axis is read as ``shape``."""
    if is_fixed(labels):
        return tuple(uniform(labels[0], size) for size in shape)
    if (id(labels), shape) in ledger.parts:
        return ledger.parts[id(labels), shape]
    grid = labels.reshape(shape)
    vary = [k for k, size in enumerate(shape) if size > 1 and _varies(grid, k)]
    if not vary:
        ledger.freeze(labels, "a reshape splits a single channel")
    core = grid[tuple(slice(None) if k in vary else 0 for k in range(len(shape)))]
    carriers = (core,) if len(vary) == 1 else tuple(ledger.fresh(shape[k]) for k in vary)
    number = ledger.split(core, carriers) if len(vary) > 1 else None
    rest = iter(carriers)
    out = tuple(
        next(rest) if k in vary else ledger.fixed(n, "runs inside a channel") for k, n in enumerate(shape)
    )
    ledger.remember(labels, out, number)
    return out


def merge_axes(ledger: Ledger, axes: tuple[Labels, ...], fills: tuple[Fill, ...]) -> tuple[Labels, Fill]:
    """Labels and fill of the axis that several axes are flattened to."""
    shape = tuple(len(axis) for axis in axes)
    carriers = [k for k, axis in enumerate(axes) if not _never(axis)]
    if len(axes) == 1:
        return axes[0], fills[0]
    if not carriers:
        return uniform(axes[0][0], math.prod(shape)), LIVE
    if math.prod(shape) > AXIS_LIMIT:
        for k in carriers:
            ledger.freeze(axes[k], "merged with other axes to one that is too long to follow")
        return ledger.fixed(math.prod(shape), "a merged axis that is too long to follow"), WILD
    if tuple(map(id, axes)) not in ledger.wholes:
        _merge(ledger, axes, carriers)
    whole, number = ledger.wholes[tuple(map(id, axes))]
    fill = fills[carriers[0]]
    if any(fills[k] != fill for k in carriers[1:]):
        ledger.assume(number)  # the outermost part carries the channels, and its fill is meant
    return whole, fill


def _merge(ledger: Ledger, axes: tuple[Labels, ...], carriers: list[int]) -> None:
    shape = tuple(len(axis) for axis in axes)
    core_shape = tuple(shape[k] for k in carriers)
    core, number = axes[carriers[0]], None
    if len(carriers) > 1:
        core = ledger.fresh(math.prod(core_shape)).reshape(core_shape)
        number = ledger.split(core, tuple(axes[k] for k in carriers))
    wide = core.reshape(tuple(size if k in carriers else 1 for k, size in enumerate(shape)))
    ledger.remember(np.broadcast_to(wide, shape).reshape(-1), axes, number)


def _segments(
    old: list[int], new: list[int], before: tuple[int, ...], after: tuple[int, ...]
) -> Iterator[tuple[list[int], list[int]]]:
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
        whole, fill = merge_axes(
            ledger, tuple(value.axes[k] for k in run_i), tuple(value.fills[k] for k in run_i)
        )
        parts = (whole,) if len(run_j) == 1 else split_axis(ledger, whole, tuple(new[k] for k in run_j))
        for k, part in zip(run_j, parts, strict=True):
            axes[k], fills[k] = part, fill
    single = [ledger.fixed(1, "single index") if axis is None else axis for axis in axes]
    return [Value(aval, tuple(single), tuple(fills), known, total=value.total, **origin(ins))]


RULES = {"reshape": reshape}
