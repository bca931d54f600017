"""Methods in the report: rows by hand, letters, why groups are apart, and the damage beside the LR's effect."""

import dataclasses
import statistics

import pytest
from scipy import stats

from prune_jax.fairness import Axes, Costs, EpochMetrics, RunRecord, SeedResult, Stage
from prune_jax.report import damage, method_ranking

GATHERED = {"evidence": {"batches": 10, "batch_size": 100}}


def record(method, finals, lr=0.01, speedup=2.0, jsv=0.5, start=20.0, **stated):
    """A made-up run: two epochs from ``start`` to ``finals``; mean JSV ``jsv`` of seed 0 after the action, of 2."""
    results = []
    for seed, final in enumerate(finals):
        curve = [EpochMetrics(0, start + seed, mean_jsv=jsv and jsv * (seed + 1))]
        curve += [EpochMetrics(1, final - 10), EpochMetrics(2, final)]
        results.append(
            SeedResult.from_epochs(seed, curve, base_accuracy=98.0, base_mean_jsv=jsv and 2.0 * (seed + 1))
        )
    ids = tuple(f"id{seed}" for seed in range(len(finals)))
    chain = (
        Stage("pretrain", ids, 5, "0:0.1"),
        Stage("sparsify", ids, 0, spec=GATHERED if method == "taylor" else {}),
        Stage("retrain", ids, 2, f"0:{lr}"),
    )
    return RunRecord(
        f"{method} {lr:g}",
        "digits/split0",
        "resnet8",
        method,
        Axes(ratio="0.5"),
        Costs("macs", 1000.0 * speedup, 1000.0, 90, 45),
        chain,
        tuple(results),
        **stated,
    )


def tables_of(text):
    """Rows of each Markdown table."""
    tables = []
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|") and "---" not in line]
        if lines:
            tables.append([[cell.strip() for cell in line.strip("|").split("|")] for line in lines])
    return tables


TAYLOR = record("taylor", [90.0, 90.5, 91.0], seconds={"sparsify": [9.0, 0.25, 0.5]})
L1 = record("l1", [80.0, 81.0, 80.5])


def test_a_row_by_hand():
    text = method_ranking.ranking([L1, TAYLOR])
    ((head, first, second),) = tables_of(text)
    p = stats.ttest_ind([90.0, 90.5, 91.0], [80.0, 81.0, 80.5], equal_var=False).pvalue
    shown = dict(zip(head, first, strict=True))
    assert shown == {
        "method": "taylor",
        "accuracy %": "90.50 ± 0.50 (n=3)",
        "letters": "a",
        "p to the first": "",
        "after the action %": "21.00",
        "trainability acc. %": "85.50 ± 0.50",  # the mean of the only LR phase's epochs, final - 10 and final
        "mean JSV before": "4",
        "mean JSV after": "1",
        "evidence": "1000",
        "seconds": "0.50",
        "MACs": "1,000",
        "params": "45",
    }
    assert second[:4] == ["l1", "80.50 ± 0.50 (n=3)", "b", "< 0.001"]
    assert p < 0.001
    assert second[8:10] == ["0", ""]
    assert (
        "**Group 1: ratio 0.5, speedup 2.00x, retraining `0:0.01` over 2 epochs** (S4.2 holds, 1 pair tested)"
        in text
    )


def test_groups_apart_and_why():
    text = method_ranking.ranking([TAYLOR, record("fpgm", [70.0, 71.0], lr=0.001), L1])
    assert [[row[0] for row in table[1:]] for table in tables_of(text)] == [["taylor", "l1"], ["fpgm"]]
    assert "(alone, ranked with no other)" in text
    assert "Group 2 is not ranked with group 1: base_model id0+id1+id2 against id0+id1; " in text


def test_masks_are_told_by_their_compression():
    masked = dataclasses.replace(L1, costs=Costs("macs", 100, 100, 90, 45))
    assert (
        "**Group 1: ratio 0.5, compression 2.00x, retraining `0:0.01` over 2 epochs**"
        in method_ranking.ranking([masked])
    )


def test_two_runs_of_one_method_are_told_by_name():
    again = dataclasses.replace(L1, name="l1, global")
    ((_, *rows),) = tables_of(method_ranking.ranking([TAYLOR, L1, again]))
    assert [row[0] for row in rows] == ["taylor", "l1: l1 0.01", "l1: l1, global"]


def test_records_that_state_little_are_shown_all_the_same():
    bare = dataclasses.replace(L1, stages=None, costs=Costs())
    text = method_ranking.ranking([bare, dataclasses.replace(TAYLOR, results=())])
    assert "taylor 0.01 is not ranked: it states no accuracy." in text
    ((_, row),) = tables_of(text)
    assert row[:3] == ["l1", "80.50 ± 0.50 (n=3)", "a"]
    assert (
        method_ranking.ranking([]) == damage.damage([]) == damage.damage([bare]) == damage.damage([L1]) == ""
    )


def test_retrainings_of_one_pruned_network_are_beside_each_other():
    text = method_ranking.retraining_ranking(
        [TAYLOR, record("taylor", [95.0, 96.0, 97.0], lr=0.1), record("l1", [50.0], 0.5)]
    )
    ((_, *rows),) = tables_of(text)
    assert [row[:3] for row in rows] == [
        ["taylor 0.1", "96.00 ± 1.00 (n=3)", "a"],
        ["taylor 0.01", "90.50 ± 0.50 (n=3)", "b"],
    ]
    assert "**Group 1: ratio 0.5, speedup 2.00x, retraining 2 epochs** (S3.1 holds, 1 pair tested)" in text
    assert method_ranking.retraining_ranking([TAYLOR]) == ""


def at_two_lrs(method, large, small, jsv):
    return [record(method, large, 0.01, jsv=jsv), record(method, small, 0.001, jsv=jsv)]


GRID = [
    *at_two_lrs("l1", [90.0, 91.0, 92.0], [80.0, 82.0, 81.0], 0.5),  # damage 0.25, effect +10
    *at_two_lrs("random", [90.0, 91.5, 92.0], [70.0, 72.0, 71.0], 0.1),  # 0.05, +20.17
    *at_two_lrs("taylor", [90.0, 92.0, 91.0], [89.0, 88.0, 90.5], 1.0),  # 0.5, +1.83
    *at_two_lrs("fpgm", [90.0, 93.0, 91.0], [87.0, 89.0, 88.0], 0.4),  # 0.2, +3.33
]


def test_damage_beside_the_effect_of_the_lr_by_hand():
    text = damage.damage(GRID)
    ((head, *rows),) = tables_of(text)
    assert head[:4] == ["method", "mean JSV after / before", "LR 0.01 %", "LR 0.001 %"]
    assert [row[:2] for row in rows] == [
        ["random", "0.05"],
        ["fpgm", "0.2"],
        ["l1", "0.25"],
        ["taylor", "0.5"],
    ]
    assert [row[4] for row in rows] == ["+20.17", "+3.33", "+10.00", "+1.83"]
    raw = {
        large.method: stats.ttest_ind(large.accuracies, small.accuracies, equal_var=False).pvalue
        for large, small in zip(GRID[::2], GRID[1::2], strict=True)
    }
    largest = max(raw, key=raw.get)
    shown = {row[0]: row[5] for row in rows}
    assert shown[largest] == f"{max(raw[largest], 2 * sorted(raw.values())[-2]):.3f}"
    # ranks 1 2 3 4 against 4 2 3 1: rho = 1 - 6 * (9 + 0 + 0 + 9) / (4 * 15)
    assert "Spearman's ρ = -0.80 over 4 methods, p = 0.200." in text


def test_the_correlation_needs_three_methods_whose_jacobian_was_measured():
    unmeasured = at_two_lrs("hrank", [90.0, 80.0, 85.0], [70.0, 60.0, 65.0], None)
    text = damage.damage([*GRID[:4], *unmeasured])
    assert "needs three methods whose Jacobian was measured" in text
    assert statistics.mean([0.25] * 3) == pytest.approx(damage.jsv_ratio(GRID[0]))
    assert [row[1] for row in tables_of(text)[0][1:]] == ["", "0.05", "0.25"]


def test_lrs_are_compared_at_one_rate_alone():
    faster = [dataclasses.replace(r, costs=Costs(speedup=4.0)) for r in GRID[:2]]
    assert len(tables_of(damage.damage([*GRID, *faster]))) == 2
    assert damage.damage([GRID[0], faster[1]]) == ""
