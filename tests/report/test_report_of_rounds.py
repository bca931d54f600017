"""Chains of several rounds, and seeds whose networks differ, in the report."""

import dataclasses
import json

import numpy as np
import pytest

from prune_jax import fairness
from prune_jax.fairness import EpochMetrics, RoundCurve, SeedResult
from prune_jax.fairness.storage import from_json, to_json
from prune_jax.report import figures, pruning_value, reading, tables


def curve(*accuracies):
    return tuple(EpochMetrics(e, value, 1.0, 1.0 + e, 0.01) for e, value in enumerate(accuracies))


def chain(macs=(25.0, 20.0)):
    """Two rounds of 2 and 3 epochs: at epoch 2 the second cut takes accuracy from 50 to 20, and from 52 to 22."""
    results = tuple(
        SeedResult.from_epochs(
            seed,
            curve(20.0 + d, 40.0 + d, 60.0 + d, 80.0 + d),
            base_accuracy=90.0,
            rounds=(RoundCurve(2, curve(10.0 + d, 30.0 + d, 50.0 + d)),),
            macs=own,
        )
        for seed, (d, own) in enumerate(zip((0.0, 2.0), macs, strict=True))
    )
    ids = ("a", "b")
    stages = (
        fairness.Stage("pretrain", ids, 5, "0:0.01", 100.0),
        fairness.Stage("sparsify", ids, 0, None, 50.0),
        fairness.Stage("retrain", ids, 2, "0:0.01,1:0.001", 50.0),
        fairness.Stage("sparsify", ids, 0, None, 22.5),
        fairness.Stage("retrain", ids, 3, "0:0.01,2:0.001", 22.5),
    )
    return fairness.RunRecord(
        "two rounds",
        "digits/split0",
        "mlp7_linear",
        "l1",
        fairness.Axes(ratio="0.9"),
        fairness.Costs("macs", 100.0, 22.5),
        stages,
        results,
    )


def one_round():
    """The same run as if its chain had one round and its seeds one width."""
    two = chain((None, None))
    results = tuple(dataclasses.replace(r, rounds=()) for r in two.results)
    return dataclasses.replace(two, results=results, stages=(two.stages[0], *two.stages[3:]))


def test_a_curve_goes_on_through_the_rounds():
    at, values = reading.through_rounds(chain(), "test_accuracy")
    assert at.tolist() == [0, 1, 2, 2, 3, 4, 5]
    np.testing.assert_array_equal(values, [[10, 30, 50, 20, 40, 60, 80], [12, 32, 52, 22, 42, 62, 82]])
    assert reading.lr_drops(chain()) == [1, 4]


def test_seeds_that_took_other_epochs_hold_their_last_value():
    record = chain()
    longer = dataclasses.replace(
        record.results[1], rounds=(RoundCurve(2, curve(12.0, 32.0, 52.0, 53.0)),), epochs=curve(22.0, 42.0)
    )
    at, values = reading.through_rounds(
        dataclasses.replace(record, results=(record.results[0], longer)), "test_accuracy"
    )
    assert at.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(values, [[10, 30, 20, 40, 60, 80], [12, 32, 52, 22, 42, 42]])


def test_of_one_round_the_whole_curve_is_the_curve():
    record = one_round()
    assert [reading.whole_curve(r) for r in record.results] == [r.epochs for r in record.results]
    for ours, plain in zip(
        reading.through_rounds(record, "mean_jsv"), reading.curve(record, "mean_jsv"), strict=True
    ):
        np.testing.assert_array_equal(ours, plain)
    assert tables.accuracy([record]).endswith("run's last stage.")  # no table of stages
    assert tables.speedup(record) == "4.44x"


def test_every_stage_has_its_macs_and_the_last_the_range_of_speedups():
    text = tables.accuracy([one_round(), chain()])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    wanted = [
        ["two rounds", "1 pretrain", "5", "100", "1.00x"],
        ["two rounds", "2 sparsify", "0", "50", "2.00x"],
        ["two rounds", "3 retrain", "2", "50", "2.00x"],
        ["two rounds", "4 sparsify", "0", "22", "4.44x"],
        ["two rounds", "5 retrain", "3", "22", "4.44x (4.00x to 5.00x)"],
    ]
    assert [row for row in rows if len(row) == 5 and row[0] == "two rounds"] == wanted


def test_the_value_of_pruning_shows_the_range_of_speedups():
    scratch = dataclasses.replace(one_round(), method="scratch")
    assert "| 4.44x (4.00x to 5.00x) |" in pruning_value.pruning_value([chain(), scratch])


@pytest.mark.parametrize("draw", [figures.accuracy_along_retraining, figures.jsv_along_retraining])
def test_figures_show_the_rounds_before(tmp_path, draw):
    pictures = []
    for number, record in enumerate((chain(), one_round())):
        assert draw([record], tmp_path / f"{number}.png")
        pictures.append((tmp_path / f"{number}.png").read_bytes())
    assert pictures[0] != pictures[1]


def test_records_with_rounds_come_back_from_json():
    assert from_json(to_json(chain())) == chain()


@pytest.mark.parametrize("schema", [1, 2])
def test_older_records_load(schema):
    old = json.loads(to_json(one_round())) | {"schema": schema}
    for result in old["results"]:
        for young in ("rounds", "macs", "params"):
            del result[young]
    assert from_json(json.dumps(old)) == one_round()
