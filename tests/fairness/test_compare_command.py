"""The compare command: verdict matrix, sentences, exit codes, bad input."""

import argparse

import pytest

from prune_jax.fairness import Costs, RunRecord, SeedResult, Stage, cli, write


def record(name, base, accuracies=(90.0, 90.1), classes=None):
    spec = {"model": {"num_classes": classes}}
    stages = (
        Stage("pretrain", (base,) * 2, 3, "0:0.1", spec=spec),
        Stage("sparsify", None, 0),
        Stage("retrain", None, 2, "0:0.1"),
    )
    results = tuple(SeedResult(i, a) for i, a in enumerate(accuracies))
    return RunRecord(name, "d", "n", costs=Costs(speedup=2.0), stages=stages, results=results)


def call(*arguments):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(list(map(str, arguments))))


@pytest.fixture
def runs(tmp_path):
    for name, base, accuracies in (
        ("a", "x", (90.0, 90.1)),
        ("b", "x", (80.0, 80.1)),
        ("c", "y", (90.0, 91.0)),
    ):
        write(record(name, base, accuracies), tmp_path / "records" / f"{name}.json")
    return tmp_path


def test_matrix_and_sentences(runs, capsys):
    assert call(runs) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["[1] a", "[2] b", "[3] c"]
    assert lines[4:7] == ["     [2]         [3]", "[1]  S4.2+A+B+=  S1+A+B+=", "[2]              S1+A+B+="]
    assert lines[9].startswith("a beats b by 10.00 points under S3.2")
    assert lines[10].startswith(
        "c is 0.45 points above a (90.50 ± 0.71 (n=2) against 90.05 ± 0.07 (n=2)), which"
    )
    assert len(lines) == 12


def test_seeds_at_chance_are_named_with_and_without_sentences(tmp_path, capsys):
    for name, accuracies in (("dead", (90.0, 10.2)), ("alive", (90.0, 91.0))):
        write(record(name, "x", accuracies, classes=10), tmp_path / f"{name}.json")
    files = [tmp_path / "dead.json", tmp_path / "alive.json"]
    line = "at chance, and inside the mean: seed 1 of dead"
    assert call(*files) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-2].endswith(" At chance: seed 1 of dead.")
    assert out[-1] == line
    assert call(*files, "--pairs=0") == 0
    assert capsys.readouterr().out.splitlines()[-1] == line


def test_require_sets_the_exit_code(runs, capsys):
    files = [runs / "records" / f"{name}.json" for name in "abc"]
    assert call(files[0], files[1], "--require=S3.2") == 0
    assert call(*files, "--require=S3.2") == 1
    assert "a / c: S3.2 doesn't hold (base_model x against y)" in capsys.readouterr().err
    assert call(*files, "--require=SX-B") == 0


def test_papers_own_table(capsys):
    assert call("paper:table1", "--require=S3.2") == 1
    out = capsys.readouterr().out
    assert "[11] L1-norm (reimpl) ICLR'17 2.31x" in out
    assert "153 pairs: sentences left out; --pairs=153 writes them" in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["paper:table1", "--require=S32"],
            "compare: unknown setup 'S32'; did you mean 'S3.2'? Allowed: S1, ",
        ),
        (
            ["paper:tabel1", "nowhere.json"],
            "compare: unknown table of runs 'tabel1'; did you mean 'table1'? Allowed: ",
        ),
        (["nowhere.json", "x"], "compare: no record at nowhere.json"),
        (["paper:table1", "--tolerance=-1"], "compare: rate_tolerance must be at least 0, got -1.0"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, complaint, capsys):
    assert call(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(complaint)
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_one_record_is_too_few(runs, capsys):
    assert call(runs / "records" / "a.json") == 2
    assert capsys.readouterr().err == "compare: compare needs at least two records, got 1\n"
