"""PruningBench as published data, and every number of docs/matched_macs.md, recomputed here from the CSV alone."""

import csv
import re
import statistics
from collections import defaultdict
from importlib.resources import files
from itertools import combinations
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from prune_jax import __main__ as command_line
from prune_jax.fairness import compare, published, strictest_setup, validate_pruningbench

PAGE = (Path(__file__).parents[2] / "docs" / "matched_macs.md").read_text(encoding="utf-8")
TEXT = files("prune_jax.fairness").joinpath("pruningbench.csv").read_text(encoding="utf-8")
ROWS = list(csv.DictReader(TEXT.splitlines()))


def name(row):
    return f"{row['importance']} + {row['regularizer']}" if row["regularizer"] else row["importance"]


def groups():
    found = defaultdict(list)
    for row in ROWS:
        found[row["task"], float(row["mac_speedup"])].append(row)
    return found


def correlation(rows):
    return spearmanr(
        [float(r["params_left_pct"]) for r in rows], [float(r["pruned"]) for r in rows]
    ).statistic


def ratio(rows):
    left = [float(row["params_left_pct"]) for row in rows]
    return max(left) / min(left)


def test_every_row_is_a_record_with_what_is_published():
    records = published.records("pruningbench")
    assert len(records) == len(ROWS) == 339
    for row, record in zip(ROWS, records, strict=True):
        assert record.summary.mean == float(row["pruned"])
        assert record.summary.base_accuracy == float(row["base"])
        assert record.costs.speedup == float(row["mac_speedup"])
        assert 100.0 / record.costs.compression == pytest.approx(float(row["params_left_pct"]), rel=1e-12)
        assert record.costs.pruned_params == pytest.approx(1e6 * float(row["params_left_m"]), rel=1e-12)
        assert (record.summary.std, record.summary.n, record.results) == (None, None, ())
        assert record.method == name(row)
    assert records[0].source.startswith("PruningBench, arXiv 2406.12315")
    assert {record.measured.name for record in records if record.dataset == "coco"} == {"mAP"}
    assert len({record.name for record in records}) == 339


def test_a_group_holds_s1_and_no_pair_is_won():
    records = [r for r in published.records("pruningbench") if r.name.startswith("Resnet-18 on Imagenet 2x")]
    assert len(records) == 17
    pairs = list(combinations(records, 2))
    assert {strictest_setup(a, b).strictest for a, b in pairs} == {"S1"}
    found = [compare(a, b) for a, b in pairs]
    assert all(each.winner is None and "std and n unstated" in each.sentence for each in found)


def test_the_command_says_what_can_be_concluded(capsys):
    asked = ["compare", "published:pruningbench", "--select=resnet-18 on imagenet 2x", "--require=S1"]
    assert command_line.main(asked) == 0
    out = capsys.readouterr().out
    assert "Pairs by strictest setup: S1: 136; 17 of 17 records state no spread over runs" in out
    assert command_line.main([*asked[:2], "--select=resnet-19"]) == 2
    assert "--select=resnet-19: none of 339 records" in capsys.readouterr().err


def test_what_contradicts_itself_by_an_independent_reading():
    """Each rule again, on the CSV alone."""
    found = defaultdict(set)
    for anomaly in validate_pruningbench():
        found[anomaly.rule].add(anomaly.where.removesuffix(f" {anomaly.where.split(' ')[-1]}"))
    label = {id(row): f"{row['task']} {float(row['mac_speedup']):g}x {name(row)}" for row in ROWS}
    drops = {
        label[id(row)]
        for row in ROWS
        if abs(float(row["delta"]) - (float(row["pruned"]) - float(row["base"]))) > 0.015 + 1e-9
    }
    assert {anomaly.where for anomaly in validate_pruningbench() if anomaly.rule == "drop"} == drops
    assert len(drops) == 4
    dense = defaultdict(list)
    for row in ROWS:
        dense[row["task"]].append(100.0 * float(row["params_left_m"]) / float(row["params_left_pct"]))
    odd = {
        label[id(row)]
        for row in ROWS
        if abs(
            100.0
            * float(row["params_left_m"])
            / float(row["params_left_pct"])
            / statistics.median(dense[row["task"]])
            - 1
        )
        > 0.0225
    }
    # 2 % is the tolerance; the rest covers the rounding of counts with two decimals
    assert found["dense"] == odd
    assert found.keys() == {"drop", "rank", "shrinking", "dense"}
    assert (len(found["rank"]), len(found["shrinking"]), len(found["dense"])) == (3, 2, 6)


def test_the_page_lists_every_contradiction_and_no_other():
    assert [str(anomaly) for anomaly in validate_pruningbench()] == re.findall(
        r"- `(pruningbench, .*)`", PAGE
    )
    assert f"finds {len(validate_pruningbench())} cells" in PAGE


def test_the_pages_table_is_recomputed_row_by_row():
    lines = [
        line.strip("| ").split(" | ") for line in PAGE.splitlines() if re.match(r"\| \w+, \w+ \|", line)
    ][1:]
    assert len(lines) == len(groups()) == 21
    for line, ((task, speedup), rows) in zip(lines, groups().items(), strict=True):
        network, data = task.lower().replace("-", "").split(" on ")
        left = sorted(rows, key=lambda row: float(row["params_left_pct"]))
        cells = [
            f"{float(row['params_left_pct']):.2f} % ({name(row)}, {float(row['pruned']):.2f})"
            for row in (left[0], left[-1])
        ]
        assert line == [
            f"{network}, {data}", f"{speedup:g}x", str(len(rows)), *cells, f"{correlation(rows):+.2f}",
        ]  # fmt: skip


def test_every_number_of_the_pages_sentences():
    flat = re.sub(r"\s+", " ", PAGE)
    all_groups = groups()
    resnet = [float(row["params_left_pct"]) for row in all_groups["Resnet-18 on Imagenet", 2.0]]
    ratios = {key: ratio(rows) for key, rows in all_groups.items()}
    widest = max(ratios, key=ratios.get)
    correlations = {key: correlation(rows) for key, rows in all_groups.items()}
    assert f"publishes {len(ROWS)} results" in flat
    assert f"keeps from {min(resnet):.2f} % to {max(resnet):.2f} % of its params" in flat
    assert f"In each of the {len(all_groups)} groups" in flat
    assert f"at least {min(ratios.values()):.2f} times as many params" in flat
    assert f"at most {ratios[widest]:.2f} times" in flat
    assert widest == ("Resnet-18 on Imagenet", 4.0)
    assert "(resnet18, imagenet, 4x)" in flat
    positive = sum(value > 0 for value in correlations.values())
    assert f"is positive in {positive} of {len(all_groups)} groups" in flat
    assert f"its median is {statistics.median(correlations.values()):+.2f}" in flat
    vgg = [value for (task, _), value in correlations.items() if task.startswith("VGG")]
    assert max(vgg) < 0
    assert len(vgg) == 3
