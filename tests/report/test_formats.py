"""Markdown tables as LaTeX and CSV, and the report command's formats and sections."""

import csv
import shutil
from pathlib import Path

import pytest

from prune_jax import __main__ as command_line
from prune_jax.fairness import RunRecord, SeedResult, Stage, write
from prune_jax.report.formats import convert
from prune_jax.report.write import TABLES

TEXT = "**Ratio 50 %**\n\n| run | acc. % |\n| --- | --- |\n| a_1 & `b` | 92.1 ± 0.2 |\n| c, d |  |\n\nA note < 1."


def test_latex_by_hand():
    assert convert(TEXT, "latex") == (
        "\\textbf{Ratio 50 \\%}\n\n"
        "\\begin{tabular}{lr}\n\\toprule\nrun & acc. \\% \\\\\n\\midrule\n"
        "a\\_1 \\& \\texttt{b} & 92.1 $\\pm$ 0.2 \\\\\nc, d &  \\\\\n\\bottomrule\n\\end{tabular}\n\n"
        "A note $<$ 1.\n"
    )


def test_csv_is_read_back():
    text = convert(TEXT, "csv")
    lines = text.splitlines()
    assert lines[0] == "# Ratio 50 %"
    assert lines[-1] == "# A note < 1."
    assert list(csv.reader(lines[1:-1])) == [["run", "acc. %"], ["a_1 & b", "92.1 ± 0.2"], ["c, d", ""]]


def test_markdown_stays_and_other_forms_are_refused():
    assert convert(TEXT, "md") == TEXT + "\n"
    with pytest.raises(KeyError, match="unknown format 'latx'; did you mean 'latex'"):
        convert(TEXT, "latx")


@pytest.fixture
def runs(tmp_path):
    stages = (
        Stage("pretrain", ("x", "y"), 3, "0:0.1"),
        Stage("sparsify", ("u", "v"), 0),
        Stage("retrain", ("r", "s"), 2, "0:0.1"),
    )
    results = (SeedResult(0, 90.0, base_accuracy=92.0), SeedResult(1, 91.0, base_accuracy=92.5))
    made = RunRecord("a_run", "digits", "mlp", "l1", stages=stages, results=results)
    write(made, tmp_path / "records" / "a.json")
    return tmp_path


def test_a_section_is_printed_in_each_format(runs, capsys):
    assert command_line.main(["report", str(runs), "--section=base", "--format=csv"]) == 0
    rows = [row for row in csv.reader(capsys.readouterr().out.splitlines()) if not row[0].startswith("#")]
    assert rows[0][:2] == ["network", "data"]
    assert rows[1][:2] == ["mlp", "digits"]
    assert command_line.main(["report", str(runs), "--section=base", "--format=latex"]) == 0
    assert r"\begin{tabular}{lrrrr}" in capsys.readouterr().out
    assert not list(runs.glob("*.html"))


def test_bad_input_is_named(runs, capsys):
    assert command_line.main(["report", str(runs), "--section=bas"]) == 2
    assert "unknown section 'bas'; did you mean 'base'" in capsys.readouterr().err
    assert command_line.main(["report", str(runs), "--section=base", "--format=tex"]) == 2
    assert "unknown format 'tex'" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["latex", "csv", "md"])
def test_every_table_of_committed_results_converts(form, tmp_path, capsys):
    folder = Path(__file__).parents[2] / "results" / "mystery1_convnet"
    shutil.copytree(folder / "records", tmp_path / "records")
    assert command_line.main(["report", str(tmp_path), "--section=all", f"--format={form}"]) == 0
    out = capsys.readouterr().out
    assert {"latex": r"\begin{tabular}", "csv": "run,ratio,method", "md": "| --- |"}[form] in out
    assert TABLES["accuracy"][0] in out
