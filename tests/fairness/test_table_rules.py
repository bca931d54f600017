"""Rules that a table's own cells must obey, each on cells worked out by hand, one wrong and one right."""

import pytest

from prune_jax.fairness import validate


def rules(*rows, **options):
    return [(found.rule, found.where) for found in validate(rows, **options)]


def text(row):
    return [str(found) for found in validate([row])]


# A cell that is wrong, what is said, and the right cell beside the same others.
RATIOS = {
    "speedup": ({"flops_g": 1.0, "base_flops_g": 4.1}, 2.0, "4.10 (1 of 4.1)", 4.1),
    "flops_cut_pct": ({"flops_m": 156.9, "base_flops_m": 252.89}, 60.0, "37.96 (156.9 of 252.89)", 38.0),
    "flops_left_pct": ({"flops_m": 820.0, "base_flops_g": 4.1}, 25.0, "20.00 (820 of 4.1)", 20.0),
    "params_cut_pct": ({"params_m": 1.0, "base_params_m": 4.0}, 50.0, "75.00 (1 of 4)", 75.0),
    "compression": ({"params_left_m": 2.0, "base_params_m": 4.0}, 3.0, "2.00 (2 of 4)", 2.0),
    "macs_cut_pct": ({"speedup": 2.0}, 60.0, "50.00 (speedup 2)", 50.0),
    "params_left_pct": ({"sparsity_pct": 90.0}, 20.0, "10.00 (sparsity_pct 90)", 10.0),
}


@pytest.mark.parametrize("column", RATIOS)
def test_a_ratio_that_other_cells_contradict_is_named(column):
    others, wrong, expected, right = RATIOS[column]
    (found,) = validate([{"method": "m", **others, column: wrong}])
    assert (found.rule, found.where, found.expected) == ("ratios", f"m {column}", expected)
    assert validate([{"method": "m", **others, column: right}]) == ()


def test_rounding_is_allowed_for_and_widens_with_the_digits_shown():
    row = {"method": "m", "flops_g": 1.0, "base_flops_g": 4.1}
    assert validate([row | {"speedup": 3.9}]) == ()  # 1.0 may be 1.05
    assert rules(row | {"flops_g": 1.000, "speedup": "3.5"}) == [("ratios", "m speedup")]
    assert validate([row | {"flops_g": "1", "speedup": "3.5"}]) == ()  # a bare 1 may be 1.5


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"acc": 0.76366, "base_acc": 0.766}, ["m acc", "m base_acc"]),
        ({"acc": 0.76}, ["m acc"]),
        ({"acc": 0.76, "base_acc": 76.6}, ["m acc"]),
        ({"acc": 0.76, "base_acc": 76.6, "delta": -75.84}, []),  # it says that it fell so low
        ({"acc": 0.1, "base_acc": 76.1}, []),  # one of 1,000 by chance
        ({"acc": 0.76, "base_acc": 76.6, "delta": -0.6}, ["m acc"]),
        ({"acc": 76.0, "base_acc": 76.6}, []),
    ],
)
def test_an_accuracy_printed_as_a_fraction_is_suspicious(row, named):
    assert [f.where for f in validate([{"method": "m", **row}]) if f.rule == "fraction"] == named


def test_the_drop_of_fractions_is_checked_in_their_own_digits():
    assert ("drop", "m") in rules({"method": "m", "acc": 0.76366, "base_acc": 0.766, "delta": -0.0002})
    assert ("drop", "m") not in rules({"method": "m", "acc": 0.76366, "base_acc": 0.766, "delta": -0.0023})


@pytest.mark.parametrize(
    ("acc", "delta"),
    [
        ("92.34%", "-0.66%"),
        (r"92.34\%", "-0.66 ↓"),
        ("**92.34**", "-0.66*"),
        ("92.34 ± 0.12", "\N{MINUS SIGN}0.66"),
        (" 92.34 ", -0.66),
        ("-", "-"),
        ("n/a", None),
    ],
)
def test_cells_are_read_as_papers_print_them(acc, delta):
    assert validate([{"method": "m", "acc": acc, "base_acc": "93.0", "delta": delta}]) == ()


def test_a_printed_std_is_checked_and_percents_of_a_ratio_divide():
    (found,) = validate([{"method": "m", "acc": "92.34 ± -0.1"}])
    assert found.where == "m acc_std"
    rows = [
        {"method": "m", "pruning_ratio": ratio, "speedup": s} for ratio, s in (("50%", "2x"), (0.7, "1.5x"))
    ]
    assert rules(*rows) == [("monotone", "m @ 0.7 speedup")]
    assert rules({"method": "m", "acc": 90.0, "pruning_ratio": 50.0}) == [("range", "m @ 50 pruning_ratio")]
    with pytest.raises(ValueError, match=r"table, row 1: acc is '92,34', which is no number"):
        validate([{"method": "m", "acc": "92,34"}])


def test_networks_without_costs_are_named_and_the_others_checked():
    known = {"network": "resnet56", "pruning_ratio": 0.5, "speedup": 9.99}
    unknown = {"network": "densenet40", "pruning_ratio": 0.7, "speedup": 1.7}
    assert rules(known, unknown) == [
        ("unchecked", "network densenet40 (left out)"),
        ("costs", "resnet56 @ 0.5 speedup"),
    ]
    assert rules(unknown, known)[0] == ("unchecked", "network densenet40 (left out)")
    with pytest.raises(KeyError, match="unknown network 'densenet40'"):
        validate([unknown], rules=["costs"])


def test_rows_that_lack_a_rules_columns_are_passed_over():
    first = {"method": "a", "acc": 90.0}
    second = {"method": "b", "flops_g": 1.0, "base_flops_g": 4.1, "speedup": 2.0}
    third = {"method": "c", "acc": 90.0, "base_acc": 91.0, "delta": -2.0, "params_left_pct": 50.0}
    assert rules(first, second, third) == [("drop", "c"), ("ratios", "b speedup")]
    with pytest.raises(ValueError, match="row 1: rule 'drop' needs a column base_acc"):
        validate([first, third], rules=["drop"])


def test_a_rank_follows_the_accuracy_within_its_ranking():
    def row(method, rank, acc, group):
        return {"method": method, "rank": rank, "acc": acc, "group": group}

    right = [row("a", 1, 90.0, "g"), row("b", 2, 89.0, "g"), row("c", 1, 80.0, "h")]
    assert rules(*right) == []
    assert rules(*right, row("d", 3, 89.5, "g")) == [("rank", "d rank")]
    assert rules(*right, row("d", 2, 88.0, "g")) == [("rank", "d rank")]


def test_params_left_are_of_one_dense_network_and_fall_with_the_speedup():
    def row(speedup, millions, percent):
        cells = {"params_left_m": millions, "params_left_pct": percent}
        return {"method": "m", "network": "n", "mac_speedup": speedup, **cells}

    right = [row(2.0, 5.0, 50.0), row(3.0, 2.5, 25.0), row(4.0, 1.0, 10.0)]
    assert rules(*right) == []
    assert rules(*right, row(5.0, 0.9, 18.0)) == [("dense", "m params_left_m")]
    assert rules(*right[:2], row(4.0, 2.6, 26.0)) == [("shrinking", "m params_left_m")]
