"""Contractions: dot_general and convolution. Here channels are made and read."""

from typing import Any

from prune_jax.pruning.jaxpr.labels import Labels, Ledger, is_fixed
from prune_jax.pruning.jaxpr.rules_reshape import split_axis
from prune_jax.pruning.jaxpr.sizes import multiplied
from prune_jax.pruning.jaxpr.values import JUNK, LIVE, WILD, Fill, Value, is_activation, is_zero, origin


def free_fill(fill: Fill) -> Fill:
    """Fill after a linear map along other axes."""
    if fill in (LIVE, WILD):
        return fill
    return 0.0 if is_zero(fill) else JUNK


def batch_fill(a: Fill, b: Fill) -> Fill:
    """Fill along an axis that both operands share and keep."""
    if WILD in (a, b):
        return WILD
    if is_zero(a) or is_zero(b):
        return 0.0
    return LIVE if a == b == LIVE else JUNK


def contract(ledger: Ledger, a: Labels, b: Labels, fill_a: Fill, fill_b: Fill) -> None:
    """Sum over a shared axis: coupled, and masked channels must add nothing."""
    ledger.couple(a, b)
    silent = (is_zero(fill_a) and fill_b != WILD) or (is_zero(fill_b) and fill_a != WILD)
    if not silent:
        words = "it sums over channels that are not zero when masked"
        ledger.unmask(b if is_fixed(a) else a, words)


def dot_general(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Batch axes and contracted axes couple, the rest pass through: batch, free left, free right."""
    left, right = ins
    (sum_l, sum_r), (batch_l, batch_r) = eqn.params["dimension_numbers"]
    axes: list[Labels] = []
    fills: list[Fill] = []
    for i, j in zip(batch_l, batch_r, strict=True):
        axes.append(ledger.couple(left.axes[i], right.axes[j]))
        fills.append(batch_fill(left.fills[i], right.fills[j]))
    for i, j in zip(sum_l, sum_r, strict=True):
        contract(ledger, left.axes[i], right.axes[j], left.fills[i], right.fills[j])
        if is_activation(left) and is_activation(right):
            ledger.mix(left.axes[i])
    for value, used in ((right, (*sum_r, *batch_r)), (left, (*sum_l, *batch_l))):
        for axis in used:
            ledger.use(value.axes[axis], value.weights, made=False)
    if left.weights and right.weights:  # a product of weights: the left one makes what is summed over
        for i in sum_l:
            ledger.use(left.axes[i], left.weights, made=True)
    for value, used in ((left, (*sum_l, *batch_l)), (right, (*sum_r, *batch_r))):
        for axis in range(len(value.shape)):
            if axis not in used:
                ledger.use(value.axes[axis], value.weights, made=True)
                axes.append(value.axes[axis])
                fills.append(free_fill(value.fills[axis]))
    total = multiplied(ledger, left, right, list(zip(sum_l, sum_r, strict=True)))
    return [
        Value(eqn.outvars[0].aval, tuple(axes), tuple(fills), total=total, **origin(ins))._replace(
            layers=True
        )
    ]


def _product(ledger: Ledger, labels: Labels, outer: int) -> tuple[Labels, Labels]:
    """Read an axis as (outer, inner): labels of both parts."""
    parts = split_axis(ledger, labels, (outer, len(labels) // outer))
    return parts[0], parts[1]


def _spatial(ledger: Ledger, eqn: Any, lhs: Value, rhs: Value, k: int) -> tuple[Labels, Fill]:
    """Spatial axis number ``k`` of the result. A window over it fixes what it slides on."""
    p, dims = eqn.params, eqn.params["dimension_numbers"]
    source, window = dims.lhs_spec[2 + k], dims.rhs_spec[2 + k]
    size = eqn.outvars[0].aval.shape[dims.out_spec[2 + k]]
    trivial = (
        rhs.shape[window] == 1
        and p["window_strides"][k] == 1
        and p["lhs_dilation"][k] == 1
        and tuple(p["padding"][k]) == (0, 0)
    )
    if trivial:
        return lhs.axes[source], free_fill(lhs.fills[source])
    ledger.freeze(lhs.axes[source], "a window slides along this axis")
    return ledger.fixed(size, "spatial axis"), LIVE


def conv_general_dilated(ledger: Ledger, eqn: Any, ins: list[Value]) -> list[Value]:
    """Batch passes, input features couple with the kernel's, output features come from the kernel."""
    lhs, rhs = ins
    p, dims = eqn.params, eqn.params["dimension_numbers"]
    n, c = dims.lhs_spec[:2]
    o, i = dims.rhs_spec[:2]
    groups = p["feature_group_count"]
    for axis in dims.rhs_spec[2:]:
        ledger.freeze(rhs.axes[axis], "window of the kernel")
    ledger.use(rhs.axes[i], rhs.weights, made=False)
    ledger.use(rhs.axes[o], rhs.weights, made=True)
    if p["batch_group_count"] != 1:
        ledger.freeze(lhs.axes[n], "batch_group_count")
        ledger.freeze(rhs.axes[o], "batch_group_count")
    features, fill = rhs.axes[o], free_fill(rhs.fills[o])
    if groups == 1:
        contract(ledger, lhs.axes[c], rhs.axes[i], lhs.fills[c], rhs.fills[i])
    else:
        group, inner = _product(ledger, lhs.axes[c], groups)
        out_group, _ = _product(ledger, features, groups)
        ledger.couple(group, out_group)
        if len(inner) > 1:
            contract(ledger, inner, rhs.axes[i], lhs.fills[c], rhs.fills[i])
        # A removed group is zero where either side is.
        fill = free_fill(rhs.fills[o]) if is_zero(rhs.fills[o]) else batch_fill(lhs.fills[c], rhs.fills[o])
    out: dict[int, tuple[Labels, Fill]] = {
        dims.out_spec[0]: (lhs.axes[n], free_fill(lhs.fills[n])),
        dims.out_spec[1]: (features, fill),
    }
    for k in range(len(dims.lhs_spec) - 2):
        out[dims.out_spec[2 + k]] = _spatial(ledger, eqn, lhs, rhs, k)
    axes, fills = zip(*(out[axis] for axis in range(len(out))), strict=True)
    return [Value(eqn.outvars[0].aval, axes, fills, **origin(ins))._replace(layers=True)]


RULES = {"dot_general": dot_general, "conv_general_dilated": conv_general_dilated}
