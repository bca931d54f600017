"""All records as one CSV: a row for each seed, a row for each printed summary, read back by the csv module."""

import csv

from prune_jax import __main__ as command_line
from prune_jax.fairness import Costs, Optimiser, RunRecord, SeedResult, Stage, Summary, published, write
from prune_jax.fairness.tidy import tidy

RUN = RunRecord(
    "ours",
    "digits",
    "mlp",
    costs=Costs(dense_macs=100.0, pruned_macs=50.0),
    stages=(
        Stage("pretrain", None, 3, "0:0.1"),
        Stage("sparsify", None, 0),
        Stage("retrain", None, 2, "0:0.1"),
    ),
    results=(SeedResult(0, 90.0, 91.0, 92.0, macs=40.0, seconds=1.5), SeedResult(1, 89.0)),
    optimiser=Optimiser("sgd", 0.9, 5e-4, 100),
    augmentation=(),
)


def test_a_row_for_each_seed_and_for_each_summary(tmp_path, capsys):
    write(RUN, tmp_path / "a.json")
    out = tmp_path / "all.csv"
    assert command_line.main(["tidy", str(tmp_path / "a.json"), "paper:table4", f"--out={out}"]) == 0
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    summaries = published.records("table4")
    assert len(rows) == 2 + len(summaries)
    assert f"{len(rows)} rows in" in capsys.readouterr().out
    first, second, third = rows[:3]
    assert (first["seed"], first["value"], first["best_value"], first["pruned_macs"]) == (
        "0",
        "90.0",
        "91.0",
        "40.0",
    )
    assert (second["seed"], second["value"], second["best_value"], second["pruned_macs"]) == (
        "1",
        "89.0",
        "",
        "50.0",
    )
    assert (first["speedup"], first["pretrain_epochs"], first["scratch_epochs"]) == ("2.0", "3", "")
    assert (first["augmentation"], first["batch_size"], first["unit"]) == ("no", "100", "%")
    assert (third["seed"], float(third["value"]), third["n"]) == ("", summaries[0].summary.mean, "3")


def test_columns_are_the_same_for_all_and_nothing_stated_is_none():
    rows = tidy([RUN, RunRecord("b"), RunRecord("c", "wikitext2", summary=Summary(14.9))])
    assert len({tuple(row) for row in rows}) == 1
    assert rows[2]["value"] is None
    assert (rows[3]["metric"], rows[3]["direction"], rows[3]["value"]) == ("perplexity", "lower", 14.9)


def test_bad_input_is_named(capsys):
    assert command_line.main(["tidy", "nowhere"]) == 2
    assert "tidy: no record at nowhere" in capsys.readouterr().err
    assert command_line.main(["tidy", "published:pruningbensh"]) == 2
    assert "did you mean 'pruningbench'" in capsys.readouterr().err
