"""A typed-in table to records: every column, the example of docs/records.md, refusals that name line and column."""

import csv
import io
import re
from pathlib import Path

import pytest

from prune_jax import __main__ as command_line
from prune_jax.fairness import Metric, Stage, compare, read_folder
from prune_jax.fairness.table_file import COLUMNS, read_csv
from prune_jax.fairness.table_records import records

PAGE = (Path(__file__).parents[2] / "docs" / "records.md").read_text(encoding="utf-8")
EXAMPLE = re.search(r"```csv\n(.*?)```", PAGE, re.DOTALL)[1]
CELLS = {
    "name": "A", "dataset": "cifar10", "network": "resnet56", "method": "L1", "value": "92.34%", "std": "0.1",
    "n": "3", "base_value": "93", "top5": "99.1", "speedup": "2.0x", "compression": "-", "dense_macs_g": "0.125",
    "pruned_macs_g": "0.0625", "dense_params_m": "0.85", "pruned_params_m": "0.43", "cost_convention": "macs, conv+fc",
    "latency_ms": "3.99", "latency_device": "A100, batch 1", "training_flops": "0.66", "base_model": "pretrained",
    "base_model_id": "ours", "granularity": "filter", "pruning_ratio": "0.5", "criterion": "l1",
    "pruning_schedule": "one-shot", "pretrain_epochs": "200", "pretrain_schedule": "0.1, /10 at 100,150",
    "sparsify_epochs": "0", "retrain_epochs": "90", "retrain_schedule": "0:0.01,30:0.001", "optimiser": "sgd",
    "momentum": "0.9", "weight_decay": "5e-4", "batch_size": "128", "augmentation": "crop+flip", "device": "A100",
    "source": "Paper A, Table 2", "setting:distillation": "from resnet110", "setting:mixup": "",
}  # fmt: skip


def test_every_column_arrives():
    (made,) = records([CELLS])
    assert (made.name, made.dataset, made.network, made.method) == ("A", "cifar10", "resnet56", "L1")
    summary = made.summary
    assert (summary.mean, summary.std, summary.n, summary.base_accuracy, summary.top5) == (
        92.34,
        0.1,
        3,
        93.0,
        99.1,
    )
    costs = made.costs
    assert (costs.dense_macs, costs.pruned_macs, costs.speedup) == (125e6, 62.5e6, 2.0)
    assert costs.compression == pytest.approx(0.85 / 0.43, rel=1e-12)
    assert (costs.latency_ms, costs.latency_device, costs.training_flops) == (3.99, "A100, batch 1", 0.66)
    assert vars(made.axes) == {
        "base_model": "pretrained",
        "granularity": "filter",
        "ratio": "0.5",
        "criterion": "l1",
        "schedule": "one-shot",
    }
    assert made.stages == (
        Stage("pretrain", ("ours",), 200, "0:0.1,100:0.01,150:0.001"),
        Stage("sparsify", None, 0),
        Stage("retrain", None, 90, "0:0.01,30:0.001"),
    )
    optimiser = made.optimiser
    assert (optimiser.name, optimiser.momentum, optimiser.weight_decay, optimiser.batch_size) == (
        "sgd", 0.9, 5e-4, 128,
    )  # fmt: skip
    assert (made.augmentation, made.settings) == (("crop", "flip"), {"distillation": "from resnet110"})
    assert (made.device, made.source, made.metric) == ("A100", "Paper A, Table 2", None)


def test_what_is_empty_is_unstated():
    (made,) = records([{"name": "A", "value": "", "augmentation": "no"}])
    assert (made.summary, made.stages, made.optimiser, made.costs.speedup) == (None, None, None, None)
    assert made.augmentation == ()


def test_runs_one_by_one_scratch_and_metrics():
    (runs,) = records([{"name": "A", "values": "92.1; 92.3;92.0", "base_model_id": "x", "top5": "99"}])
    assert runs.accuracies == (92.1, 92.3, 92.0)
    assert runs.stages[0].ids == ("x",) * 3
    (scratch,) = records([{"name": "S", "scratch_epochs": "120", "scratch_schedule": "fixed 0.1"}])
    assert scratch.stages == (Stage("scratch", None, 120, "0:0.1"),)
    (known,) = records([{"name": "P", "metric": "perplexity", "value": "146,760.7"}])
    assert (known.metric.direction, known.summary.mean) == ("lower", 146_760.7)
    own = {"name": "O", "metric": "BLEU", "metric_direction": "higher", "value": "27.3"}
    assert records([own])[0].metric == Metric("BLEU")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"value": "ninety"}, "table, line 1: value is 'ninety', which is no number"),
        ({"value": "90", "n": "2.5"}, "table, line 1: n is 2.5; it is a whole number"),
        ({"value": "101"}, "table, line 1: mean is a percentage from 0 to 100, got 101.0"),
        (
            {"retrain_epochs": "90", "retrain_schedule": "cosine"},
            "line 1: schedule 'cosine' leaves open its LRs; wri",
        ),
        ({"retrain_epochs": "90", "scratch_epochs": "90"}, "scratch and retrain are both stated"),
        ({"value": "90", "values": "90;91"}, "value and values are both stated"),
        ({"metric": "BLEU"}, "metric 'BLEU' is none of .*; give metric_direction"),
        ({"name": ""}, "table, line 1: name is empty"),
        ({"speedup": "-2"}, "speedup must be positive"),
        ({"values": "90;91", "n": "2"}, "n stated without value; give that too"),
        ({"base_value": "93"}, "base_value stated without value or values"),
        ({"metric_unit": "%"}, "metric_unit stated without metric"),
        ({"latency_ms": "3.99"}, "latency_ms stated without latency_device or device; give that too"),
    ],
)
def test_cells_that_cannot_be_read_are_named(cells, message):
    with pytest.raises(ValueError, match=message):
        records([{"name": "A", **cells}])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name,acuracy\nA,9\n",
            "unknown column 'acuracy'.*; a setting of training is written 'setting:acuracy'",
        ),
        ("name,value,value\n", "column 'value' is there twice"),
        ("method,value\nA,9\n", "has no column 'name'"),
        ("name,value\nA,9,8\n", "line 2 has 3 cells, the header 2; quote a cell"),
        ("name,value\n\n", "has no rows below its header"),
        ("name,value\nA,9\n\nA,8\n", "line 4: name 'A' is there already"),
    ],
)
def test_tables_that_cannot_be_read_are_named_and_nothing_is_written(text, message, tmp_path, capsys):
    (tmp_path / "t.csv").write_text(text)
    assert command_line.main(["record", str(tmp_path / "t.csv"), f"--out={tmp_path / 'out'}"]) == 2
    complaint = capsys.readouterr().err
    assert re.search(message, complaint)
    assert complaint.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_page_shows_every_column_and_what_its_example_gives(tmp_path, capsys):
    table = {
        cells[1].strip("` "): cells[2].strip()
        for cells in (line.split("|") for line in PAGE.splitlines())
        if len(cells) == 4
    }
    assert {key: table[key] for key in COLUMNS} == COLUMNS
    (tmp_path / "t.csv").write_text(EXAMPLE, encoding="utf-8")
    assert command_line.main(["record", str(tmp_path / "t.csv"), f"--out={tmp_path / 'out'}"]) == 0
    assert capsys.readouterr().err == ""
    a, b = read_folder(tmp_path / "out")
    assert compare(a, b).sentence in PAGE
    rows = list(csv.DictReader(io.StringIO(EXAMPLE)))
    rows[0]["setting:distillation"] = "no"
    assert compare(*records(rows)).sentence in PAGE
    assert command_line.main(["record", str(tmp_path / "t.csv"), f"--out={tmp_path / 'out'}"]) == 2
    assert "holds 2 records already; choose a new folder" in capsys.readouterr().err


def test_what_contradicts_itself_is_said(tmp_path, capsys):
    text = "name,value,base_value,speedup,dense_macs_g,pruned_macs_g\nA,0.76,0.77,2.0,4.1,1.0\n"
    (tmp_path / "t.csv").write_text(text)
    assert command_line.main(["record", str(tmp_path / "t.csv"), f"--out={tmp_path / 'out'}"]) == 0
    complaint = capsys.readouterr().err
    assert "A acc: printed 0.76, expected 76, a percentage [fraction]" in complaint
    assert "A speedup: printed 2, expected 4.10" in complaint
    assert len(read_csv(tmp_path / "t.csv")) == 1
