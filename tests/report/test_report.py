import dataclasses
import statistics

import numpy as np
import pytest
from scipy import stats

from prune_jax import fairness, report
from prune_jax.report import figures, pruning_value, reading, tables
from prune_jax.report.write import FIGURES, TABLES


def record(lr, epochs, finals, ratio="0.9", method="l1", regime="", jsv=True, drop=None):
    """A made-up run whose accuracy climbs in a line to ``finals`` (one per seed)."""
    text = f"0:{lr}" if drop is None else f"0:{lr},{drop}:{lr / 10}"
    results = []
    for seed, final in enumerate(finals):
        metrics = [
            fairness.EpochMetrics(e, final * e / epochs, 1.0, (0.5 + e) if jsv else None, lr)
            for e in range(epochs + 1)
        ]
        stated = {} if method == "scratch" else {"base_accuracy": 98.0, "base_mean_jsv": 3.0 + seed}
        results.append(fairness.SeedResult.from_epochs(seed, metrics, **stated))
    ids = tuple(f"id{seed}" for seed in range(len(finals)))
    last = fairness.Stage("scratch" if method == "scratch" else "retrain", ids, epochs, text)
    first = () if method == "scratch" else (fairness.Stage("pretrain", ids, 5, "0:0.01"),)
    return fairness.RunRecord(
        f"{method} {lr} {epochs} {regime}",
        "digits/split0",
        "mlp7_linear",
        method,
        fairness.Axes(ratio=ratio),
        fairness.Costs("macs", 100, 25),
        (*first, last),
        tuple(results),
        config={"regime": regime},
        versions={"jax": "0.0"},
        command="run.py",
        device="none",
    )


def rows_of(table):
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]


def test_the_gap_table_by_hand():
    large, small = (90.0, 91.0, 92.5), (80.0, 83.0, 84.0)
    table = tables.lr_gap([record(0.01, 3, large), record(0.001, 3, small), record(0.01, 5, large)])
    head, row = rows_of(table)
    assert head == ["epochs", "LR 0.01", "LR 0.001", "gap (points)", "p"]
    wanted = stats.ttest_ind(large, small, equal_var=False).pvalue
    spread = [f"{statistics.mean(v):.2f} ± {statistics.stdev(v):.2f}" for v in (large, small)]
    gap = statistics.mean(large) - statistics.mean(small)
    assert row == ["3", *spread, f"{gap:+.1f}", f"{wanted:.3f}"]  # 5 epochs have no small LR to compare with


def test_every_seed_and_eq_1_are_in_the_table_of_runs():
    (_, row) = rows_of(tables.accuracy([record(0.01, 4, (80.0, 60.0), drop=2)]))
    # accuracies climb 20, 40, | 60, 80 and 15, 30, | 45, 60; Eq. (1) is the mean of the first two
    assert row[5:8] == ["70.00 ± 14.14", "80.0, 60.0", "26.25 ± 5.30"]
    assert row[8:] == ["0.5", "4.5"]


def test_base_models_are_listed_once():
    runs = [record(0.01, 3, (90.0, 91.0)), record(0.001, 3, (90.0, 91.0))]
    head_and_rows = rows_of(tables.base(runs))
    assert len(head_and_rows) == 2
    assert head_and_rows[1][3:5] == ["98.00 ± 0.00", "3.500 ± 0.707"]


def test_the_value_of_pruning_by_hand():
    pruned, scratch = (84.0, 85.0, 86.0), (82.0, 82.5, 84.0)
    runs = [
        record(0.1, 4, scratch, method="scratch"),
        record(0.01, 2, pruned, regime="SX-A"),
        record(0.01, 2, pruned, ratio="0.5", regime="SX-A"),
    ]
    (_, row) = rows_of(pruning_value.pruning_value(runs))  # ratio 0.5 has no scratch run: no row
    wanted = stats.ttest_ind(pruned, scratch, equal_var=False).pvalue
    assert row[:3] == ["0.9", "4.00x", "SX-A"]
    assert row[-2:] == [f"{85.0 - statistics.mean(scratch):+.2f}", f"{wanted:.3f}"]


@pytest.mark.parametrize("p", [(None, "n/a"), (0.0004, "< 0.001"), (0.0312, "0.031"), (1.0, "1.000")])
def test_p_values_as_text(p):
    assert tables.p_text(p[0]) == p[1]


def test_curves_keep_every_seed():
    at, values = reading.curve(record(0.01, 2, (80.0, 60.0)), "test_accuracy")
    assert at.tolist() == [0, 1, 2]
    np.testing.assert_allclose(values, [[0, 40, 80], [0, 30, 60]])


SOME = [
    record(0.01, 3, (90.0, 91.0), drop=2),
    record(0.001, 3, (80.0, 81.0)),
    record(0.1, 4, (70.0, 71.0), method="scratch"),
]
ALL = {"title": "T", "text": "Words.", "sections": report.SECTIONS}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with a report of three of four runs, all sections."""
    folder = tmp_path_factory.mktemp("written")
    report.write(folder, SOME, ALL, runs=4)
    return folder


def test_every_section_stands(written):
    text = (written / "report.md").read_text()
    headings = {name: heading for name, (heading, *_) in (*TABLES.items(), *FIGURES.items())}
    missing = {name for name, heading in headings.items() if f"## {heading}\n" not in text}
    # No spectra were measured, no run names a row or its regime, has a control, a longer twin or a rewinding.
    assert missing == {"spectra", "retraining_curves", *EMPTY}


FEW = {"none": [], "one": SOME[:1], "without Jacobians": [record(0.01, 3, (90.0,), jsv=False)]}
# Tables that have no row for SOME, and which more have none for few records.
EMPTY = ("beside_paper", "budgets", "controls", "extended", "retraining_ranking", "statements")
TOO_FEW = {
    "none": ("damage_and_lr", "equal_compute_ranking", "larger_lr", "method_ranking"),
    "one": ("damage_and_lr", "larger_lr"),
    "without Jacobians": ("damage_and_lr", "larger_lr"),
}


@pytest.mark.parametrize("which", FEW)
def test_every_section_stands_on_few_records(tmp_path, which):
    text = report.write(tmp_path, FEW[which], ALL, runs=len(FEW[which])).read_text()
    assert text.startswith("# T")
    missing = {name for name, (heading, _) in TABLES.items() if f"## {heading}\n" not in text}
    assert missing == {*EMPTY, *TOO_FEW[which]}


def test_a_report_is_the_same_twice_and_says_what_is_missing(written, tmp_path):
    first = (written / "report.md").read_text()
    report.write(tmp_path, SOME, ALL, runs=4)
    files = [sorted(p.relative_to(f) for p in f.rglob("*") if p.is_file()) for f in (written, tmp_path)]
    assert files[0] == files[1]
    for file in files[0]:
        assert (written / file).read_bytes() == (tmp_path / file).read_bytes()
    assert "**3 of 4 runs are finished" in first
    assert "Words." in first
    shown = {line.split("](")[1].rstrip(")") for line in first.splitlines() if line.startswith("![")}
    assert shown == {str(file) for file in files[0] if file.suffix == ".png"}
    assert len(shown) >= 3


def test_without_drawing_only_figures_that_exist_are_shown(tmp_path):
    layout = {"title": "T", "text": "", "sections": ("accuracy_vs_epochs",)}
    records = [record(0.01, 3, (90.0, 91.0))]
    assert "](" not in report.write(tmp_path, records, layout, 1, draw=False).read_text()
    report.write(tmp_path, records, layout, 1)
    assert (
        "](figures/accuracy_vs_epochs.png)"
        in report.write(tmp_path, records, layout, 1, draw=False).read_text()
    )


def test_a_report_that_is_not_interactive_has_no_page(tmp_path):
    layout = {"title": "T", "text": "", "sections": ("accuracy",), "interactive": False}
    written = report.write(tmp_path, [record(0.01, 3, (90.0, 91.0))], layout, 1)
    assert "report.html" not in written.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_unknown_sections_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown section 'figure9'.* Allowed: base"):
        report.check_sections(("figure9",))


def test_a_record_without_a_chain_is_named():
    bare = dataclasses.replace(record(0.01, 3, (90.0,)), stages=None)
    with pytest.raises(ValueError, match=r"record 'l1 0.01 3 ' states no stages"):
        reading.schedule(bare)


def test_figures_mark_the_lr_drops(tmp_path):
    with_drop = tmp_path / "drop.png"
    figures.accuracy_along_retraining([record(0.01, 4, (90.0, 91.0), drop=2)], with_drop)
    without = tmp_path / "flat.png"
    figures.accuracy_along_retraining([record(0.01, 4, (90.0, 91.0))], without)
    assert with_drop.read_bytes() != without.read_bytes()
