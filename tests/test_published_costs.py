"""Every FLOPs, speedup, sparsity and params cell that the paper prints, against costs counted from the jaxpr."""

import functools

import pytest

from prune_jax.experiment import networks
from prune_jax.experiment.specs import ModelSpec
from prune_jax.fairness import published

SPECS = {
    "resnet34": ModelSpec("resnet34", (224, 224, 3), 100),
    "resnet50": ModelSpec("resnet50", (224, 224, 3), 1000),
    "resnet56": ModelSpec("resnet56", (32, 32, 3), 10),
    "vgg19": ModelSpec("vgg19", (32, 32, 3), 100),
}
HALF_A_DIGIT = 0.005 + 1e-9  # all these cells have two decimals
ROUNDED = "a quotient of numbers that were rounded to three decimals before (docs/errata.md, section 4)"
# The cells that exact costs don't reproduce, as (table, ratio by the costs, column): exact value, reason.
DEVIATIONS = {
    ("table6", 0.7, "sparsity_pct"): (70.580, ROUNDED),
    ("table6", 0.9, "sparsity_pct"): (90.445, ROUNDED),
    ("table6", 0.9, "speedup"): (11.578, ROUNDED),
    ("table7", 0.5, "speedup"): (3.609, ROUNDED),
    ("table7", 0.7, "speedup"): (8.891, ROUNDED),
}


@functools.cache
def cost(network, ratio=None):
    """Counted by the library: at a uniform ratio, at a ratio a stage, or dense."""
    spec = SPECS[network]
    if ratio is None:
        return networks.cost_of(spec)
    if isinstance(ratio, tuple):
        return networks.cost_of(spec, networks.widths_of(spec, networks.stage_ratios(spec, (), ratio)))
    return networks.cost_of(spec, networks.widths_of(spec, networks.uniform_ratios(spec, (), ratio)))


def exact(network, ratio, column, flops_per_mac):
    dense, pruned = cost(network), cost(network, ratio)
    return {
        "speedup": dense.macs / pruned.macs,
        "sparsity_pct": 100 * (1 - pruned.params / dense.params),
        "flops_g": flops_per_mac * pruned.macs / 1e9,
        "base_flops_g": flops_per_mac * dense.macs / 1e9,
        "base_params_m": dense.params / 1e6,
    }[column]


def cells():
    """(table, network, ratio, column, FLOPs a MAC, printed), each cost once though rows repeat it."""
    found = {}
    for row in published.rows("table4"):
        for column in ("flops_g", "speedup"):
            found["table4", "resnet34", row["pruning_ratio"], column, 1, row[column]] = None
    for table in ("table6", "table7"):
        for row in published.rows(table):
            for column in ("sparsity_pct", "speedup", "base_flops_g", "base_params_m"):
                # Table 7's header is shifted (docs/errata.md, section 1): the ratio is the one its costs have
                key = (table, row["network"], row["pruning_ratio_recomputed"], column, 2, row[column])
                found[key] = None
    return list(found)


def test_the_tables_hold_as_many_cells_as_are_printed():
    # six ratios with two costs; twice four ratios with two costs and the base model's two
    assert len(cells()) == 12 + 2 * 16


@pytest.mark.parametrize(("table", "network", "ratio", "column", "flops_per_mac", "printed"), cells())
def test_printed_costs(table, network, ratio, column, flops_per_mac, printed):
    value = exact(network, ratio, column, flops_per_mac)
    agrees = abs(printed - value) <= HALF_A_DIGIT
    if (table, ratio, column) in DEVIATIONS:
        known, reason = DEVIATIONS[table, ratio, column]
        assert not agrees, f"{table} @ {ratio} {column} agrees by now; its deviation was: {reason}"
        assert round(value, 3) == known
        assert abs(printed / value - 1) < 0.02, reason
    else:
        assert agrees, f"{table} @ {ratio} {column}: printed {printed}, counted {value:.4f}"


# Appendix A's lists (stem, four stages, head) with Table 1's speedups, and the companion paper's two.
@pytest.mark.parametrize(
    ("ratios", "printed"),
    [
        ((0, 0.6, 0.6, 0.6, 0.21, 0), 2.31),
        ((0, 0.74, 0.74, 0.6, 0.21, 0), 2.56),
        ((0, 0.3, 0.3, 0.3, 0.14, 0), 1.49),
        ((0, 0.68, 0.68, 0.68, 0.5, 0), 3.06),
    ],
)
def test_resnet50s_lists_give_the_printed_speedups(ratios, printed):
    assert abs(cost("resnet50").macs / cost("resnet50", ratios).macs - printed) <= HALF_A_DIGIT


def test_table_1_prints_the_speedups_of_appendix_a():
    printed = [
        row["speedup"]
        for row in published.rows("table1")
        if row["method"] == "L1-norm (reimpl)" and row["quantity"] == "acc_top1"
    ]
    assert printed == [2.31, 2.56]


def test_the_vgg19_header_as_printed_is_wrong():
    # with the printed ratios the costs are nowhere near: the reason for the recomputed column
    for row in published.rows("table7")[:4]:
        assert row["pruning_ratio_printed"] != row["pruning_ratio_recomputed"]
        assert abs(row["speedup"] / exact("vgg19", row["pruning_ratio_printed"], "speedup", 2) - 1) > 0.3
