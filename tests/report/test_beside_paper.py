"""Ours beside the paper's tables: cells by hand, titles that say what differs, pages that hold it all."""

import argparse
import dataclasses
import html.parser
import re

import pytest

from prune_jax import fairness
from prune_jax.report import beside_paper, cli, cross_validating, curves, paper_html, paper_tables

PAPERS = {"dataset": "imagenet100/split0", "network": "resnet34"}


def record(row, ratio, finals, tables=(4, 5, 8), first_stage=1, epochs=2, **stated):
    """A run of a row: its accuracy is half the final one until the last epoch."""
    schedule = "0:0.1" if first_stage == epochs else f"0:0.1,{first_stage}:0.01"
    results = []
    for seed, final in enumerate(finals):
        metrics = [fairness.EpochMetrics(e, final if e == epochs else final / 2) for e in range(epochs + 1)]
        results.append(fairness.SeedResult.from_epochs(seed, metrics))
    config = {"row": row, "tables": list(tables), "sparsify": {"ratio": ratio}}
    config["shorten"] = stated.pop("shorten", 1.0)
    return fairness.RunRecord(
        name=f"{row} @ {ratio}",
        method=stated.pop("method", "l1"),
        axes=fairness.Axes(ratio=str(ratio)),
        costs=fairness.Costs("macs", 300, 100, 80, 20),
        stages=(
            fairness.Stage("pretrain", tuple(map(str, range(len(finals)))), 1, "0:0.1"),
            fairness.Stage("retrain", tuple(map(str, range(len(finals)))), epochs, schedule),
        ),
        results=tuple(results),
        config=config,
        **(PAPERS | stated),
    )


def lines_of(markdown):
    """Row label -> (paper, ours, difference), each by column."""
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in markdown.splitlines() if "|" in line]
    head, _, *body = rows
    return {
        body[i][0]: tuple(dict(zip(head[3:], line[3:], strict=True)) for line in body[i : i + 3])
        for i in range(0, len(body), 3)
    }


def test_table_4_by_hand():
    runs = [record("P15F105, 1e-1", 0.5, (80.0, 81.0, 83.0)), record("scratch", 0.95, (70.0, 70.0, 70.0))]
    table = lines_of(beside_paper.markdown(4, runs))
    assert len(table) == 13  # twelve rows and the speedups
    paper, ours, difference = table["P15F105, 1e-1"]
    assert paper["0.5"] == "83.87 ± 0.44 (3)"
    assert ours["0.5"] == "81.33 ± 1.53 (3)"
    assert difference["0.5"] == "-2.54"
    assert table["scratch"][1]["0.95"] == "70.00 ± 0.00 (3)"
    filled = [(row, c) for row, (_, ours, _) in table.items() for c, text in ours.items() if text]
    assert filled == [
        ("speedup", "0.5"),
        ("speedup", "0.95"),
        ("scratch", "0.95"),
        ("P15F105, 1e-1", "0.5"),
    ]
    assert [side["0.5"] for side in table["speedup"]] == ["1.93", "3.00", "+1.07"]


def test_a_speedup_has_its_spread_where_the_seeds_networks_differ():
    run = record("P15F105, 1e-1", 0.5, (80.0, 81.0))
    results = tuple(
        dataclasses.replace(result, macs=macs, params=20)
        for result, macs in zip(run.results, (60, 150), strict=True)
    )
    table = lines_of(beside_paper.markdown(4, [dataclasses.replace(run, results=results)]))
    # 300 / 100; of 300 / 60 and 300 / 150 the sample std is 3 / sqrt(2)
    assert table["speedup"][1]["0.5"] == "3.00 ± 2.12 (2)"


def test_what_is_the_papers_needs_no_label():
    runs = [record("scratch", 0.5, (70.0, 70.0, 70.0))]
    assert beside_paper.beside(4, runs).title == (
        "Table 4: L1-norm pruning and scratch, ResNet34 on ImageNet100"
    )


@pytest.mark.parametrize(
    ("stated", "label"),
    [
        ({"dataset": "digits/split0"}, "ours on other data: data digits instead of imagenet100"),
        ({"network": "resnet8"}, "ours differs: network resnet8 instead of resnet34"),
        ({"shorten": 15.0}, "ours differs: epochs / 15"),
    ],
)
def test_what_differs_is_in_the_title(stated, label):
    runs = [record("scratch", 0.5, (70.0, 71.0, 72.0), **stated)]
    title = beside_paper.beside(4, runs).title
    assert title.endswith(f"[{label}]")
    assert f"**{title}**" in beside_paper.markdown(4, runs)
    assert f"<title>{title}</title>" in paper_html.page(4, runs)


def test_few_seeds_are_in_the_title():
    assert beside_paper.beside(4, [record("scratch", 0.5, (70.0,))]).title.endswith("[ours differs: 1 seed]")


def test_table_5_has_eq_1_where_it_is_printed():
    row = "P30F90, 1e-2"
    runs = [
        record(row, 0.95, (60.0, 70.0, 80.0), first_stage=2, epochs=3),
        record(f"{row} (+60 epochs)", 0.95, (78.0, 79.0, 80.0)),
    ]
    table = lines_of(beside_paper.markdown(5, runs))
    assert len(table) == 14
    assert table[row][1] == {"accuracy %": "70.00 ± 10.00 (3)", "trainability accuracy %": "35.00 ± 5.00 (3)"}
    assert table[row][2]["trainability accuracy %"] == f"{35 - 77.45:+.2f}"
    assert table[f"{row} (+60 epochs)"][1]["trainability accuracy %"] == ""
    assert table["P90F30, 1e-4 (+1485 epochs)"][0]["accuracy %"] == "78.18 (1)"
    assert "docs/errata.md" in beside_paper.markdown(5, runs)


def test_table_7_goes_by_the_ratio_that_its_costs_have():
    run = record("L1 (Step LR 0.01)", 0.5, (71.0, 71.0, 71.0), tables=(7,))
    table = lines_of(beside_paper.markdown(7, [run]))
    assert [side["0.5 (printed 0.7)"] for side in table["L1 (Step LR 0.01)"]] == [
        "71.49 ± 0.14 (3)",
        "71.00 ± 0.00 (3)",
        "-0.49",
    ]
    assert table["sparsity %"][1]["0.5 (printed 0.7)"] == "75.00"


def test_table_1_stands_beside_all_methods():
    run = record("L1-norm (reimpl) 2.31x", 0.5, (75.0, 75.5, 76.0), tables=(1,))
    table = lines_of(beside_paper.markdown(1, [run]))
    assert len(table) == 18
    assert [side["top-1 %"] for side in table["L1-norm (reimpl) 2.31x"]] == [
        "75.24",
        "75.50 ± 0.50 (3)",
        "+0.26",
    ]
    assert [side["top-1 %"] for side in table["GReg-2 2.56x"]] == ["74.93", "", ""]


def test_the_run_with_most_seeds_is_shown_and_said_so():
    runs = [record("scratch", 0.5, (10.0,)), record("scratch", 0.5, (70.0, 71.0))]
    shown = beside_paper.markdown(4, runs)
    assert lines_of(shown)["scratch"][1]["0.5"] == "70.50 ± 0.71 (2)"
    assert "scratch, 0.5: 2 runs fit; one with most seeds is shown." in shown


def test_a_report_shows_the_table_that_its_runs_fill():
    extended = [record(row, 0.95, (70.0,)) for row in ("P60F60, 1e-3", "P60F60, 1e-3 (+180 epochs)")]
    assert beside_paper.fullest(extended).startswith("**Table 5")
    assert beside_paper.fullest([record("scratch", 0.5, (70.0,))]).startswith("**Table 4")
    assert beside_paper.fullest([record("", 0.5, (70.0,), tables=())]) == ""


class Cells(html.parser.HTMLParser):
    """Text of each cell, row by row."""

    def __init__(self):
        super().__init__()
        self.rows, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.open += [] if tag == "meta" else [tag]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1].append(text.strip())


def test_the_page_marks_setups_and_holds_the_same_cells():
    runs = [record("P30F90, 1e-1", 0.5, (80.0, 81.0)), record("P30/kF90, 1e-2", 0.3, (80.0, 81.0))]
    page = paper_html.page(4, runs)
    cells = Cells()
    cells.feed(page)
    assert not cells.open
    rows = {row[0][-1]: row for row in cells.rows}
    assert rows["P30F90, 1e-1"][3] == ["85.48 ± 0.18 (3)", "80.50 ± 0.71 (2)", "-4.98"]
    assert rows["P30F90, 1e-1"][0][0] == "■"
    assert rows["P30/kF90, 1e-2"][0][0] == "▲"
    assert len(rows) == 14
    colors = dict(re.findall(r'<span style="color:(#\w+)" title="([^"]+)"', page))
    assert sorted(colors.values()) == ["S4.2", "SX-A", "SX-B"]


def test_labels_from_records_are_escaped():
    page = paper_html.page(4, [record("scratch", 0.5, (70.0,), network="<script>")])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def call(*arguments):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(list(map(str, arguments))))


def test_the_command_prints_and_writes(tmp_path, capsys):
    fairness.write(record("scratch", 0.5, (70.0, 71.0, 72.0)), tmp_path / "records" / "a.json")
    assert call(tmp_path, "--table=4") == 0
    assert "71.00 ± 1.00 (3)" in capsys.readouterr().out
    assert "71.00 ± 1.00 (3)" in (tmp_path / "table4.html").read_text()
    assert call(tmp_path, "--table=4", f"--html={tmp_path / 'other.html'}") == 0
    assert (tmp_path / "other.html").read_text() == (tmp_path / "table4.html").read_text()


@pytest.mark.parametrize(
    ("table", "content", "complaint"),
    [
        (3, None, "report: table 3 has no cells that a run could stand beside; one of 1, 4, 5, 6, 7, 8"),
        (6, None, "report: none of 1 records belongs to Table 6; python run.py --config=configs/table6.py"),
        (8, "{}", "b.json states no schema version"),
        (4, "no JSON", "b.json is no JSON"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(table, content, complaint, tmp_path, capsys):
    fairness.write(record("scratch", 0.5, (70.0,)), tmp_path / "records" / "a.json")
    if content is not None:
        (tmp_path / "records" / "b.json").write_text(content)
    assert call(tmp_path, f"--table={table}") == 2
    assert complaint in capsys.readouterr().err
    assert not list(tmp_path.glob("*.html"))


def test_cross_validation_needs_all_four_runs():
    runs = [
        record(f"{m} + FT_{f}", 0.5, (70.0 + i, 71.0 + i))
        for i, (m, f) in enumerate(["AA", "BA", "AB", "BB"])
    ]
    shown = cross_validating.cross_validation(runs)
    assert "| FT_A: `0:0.1,1:0.01` | 70.50 ± 0.71 | 71.50 ± 0.71 | -1.00 |" in shown
    assert shown.endswith(fairness.cross_validate(*runs).sentence)
    partial = cross_validating.cross_validation(runs[:3])
    assert partial.endswith("The verdict needs all four runs.")
    assert "| FT_B: `0:0.1,1:0.01` | 72.50 ± 0.71 |  |  |" in partial


def test_curves_are_drawn_for_rows_of_the_paper(tmp_path):
    base = record("P60F60, 1e-3", 0.95, (70.0, 71.0), first_stage=30, epochs=60)
    longer = record("P60F60, 1e-3 (+180 epochs)", 0.95, (70.0,), first_stage=210, epochs=240)
    path = tmp_path / "figures" / "curves.png"
    assert curves.retraining_curves([base, longer], path)
    assert path.stat().st_size > 10_000
    assert not curves.retraining_curves([record("", 0.5, (70.0,))], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_the_papers_points_are_drawn_over_equal_epochs_only():
    whole = record("P60F60, 1e-3", 0.95, (70.0,), first_stage=30, epochs=60)
    points = curves.paper_points(whole)
    assert (len(points), points[0], points[-1][0]) == (60, (1.0, 19.84), 60.0)
    assert curves.paper_points(record("P60F60, 1e-3", 0.95, (70.0,), epochs=4)) == []


def test_every_printed_accuracy_is_a_cell():
    # Table 4 has 12 rows at 6 ratios, Table 5 has 14 rows, Tables 6 and 7 have 6 rows at 4 ratios
    sizes = {
        n: sum(c.quantity == "accuracy" for c in paper_tables.paper_table(n).cells.values())
        for n in (1, 4, 5, 6, 7, 8)
    }
    assert sizes == {1: 18, 4: 72, 5: 14, 6: 24, 7: 24, 8: 5}
