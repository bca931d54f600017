"""Records: JSON round trips, refusals that name the place, atomic writing, old schemas."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_jax.fairness import (
    Axes,
    Costs,
    EpochMetrics,
    JSVSummary,
    Optimiser,
    RunRecord,
    SeedResult,
    Stage,
    Summary,
    from_json,
    read,
    read_folder,
    to_json,
    write,
)
from prune_jax.fairness.storage import lift

SPECTRUM = JSVSummary(20, 1.5, 0.1, 0.9, 4.0, 0.2, 11.0, 190, 10, 1.06, -4, (90.0, 60.0, 40.0))
CURVE = (
    EpochMetrics(0, 10.0, None, 0.0008, None, 1e-4, SPECTRUM),
    EpochMetrics(1, 80.5, 0.9, 1.0, 0.01),
    EpochMetrics(2, 79.5, 0.7, 1.1, 0.001),
)


def full_record():
    return RunRecord(
        name="l1 0.9",
        dataset="mnist5k",
        network="mlp7_linear",
        method="l1",
        axes=Axes("pretrained", "filter", "0.9", "l1", "one-shot"),
        costs=Costs("macs, conv+fc", 1000.0, 100.0, 500.0, 50.0),
        stages=(
            Stage("pretrain", ("a0", "a1"), 30, "0:1e-1,15:1e-2", None, {"init": "orthogonal"}),
            Stage("sparsify", ("b0", "b1"), 0, None, None, {"ratio": (0.9, 0.9)}),
            Stage("retrain", ("c0", "c1"), 2, "0:0.01,1:0.001"),
        ),
        results=(
            SeedResult.from_epochs(
                0, CURVE, base_accuracy=91.0, base_mean_jsv=3.46, pruned_spectrum=SPECTRUM
            ),
            SeedResult(1, last_accuracy=78.0),
        ),
        optimiser=Optimiser("sgd", 0.9, 5e-4, 128, {"nesterov": False}),
        augmentation=("crop", "flip"),
        versions={"jax": "0.10.2"},
        device="cpu",
        commit="abc",
        command="python run.py",
        seconds={"sparsify": (0.5, 0.25)},
        config={"seeds": (0, 1), "nested": {"x": None}},
        source=None,
    )


def test_round_trip_keeps_everything(tmp_path):
    record = full_record()
    assert from_json(to_json(record)) == record
    assert read(write(record, tmp_path / "deep" / "r.json")) == record
    published = RunRecord("SFP", summary=Summary(74.61), costs=Costs(speedup=1.72))
    assert from_json(to_json(published)) == published


def test_last_and_best_accuracy_come_from_the_curve():
    result = full_record().results[0]
    assert (result.last_accuracy, result.best_accuracy) == (79.5, 80.5)
    assert full_record().accuracies == (79.5, 78.0)
    with pytest.raises(ValueError, match="seed 3: the last epoch states no test accuracy"):
        SeedResult.from_epochs(3, [EpochMetrics(1)])


def test_costs_follow_from_counts_and_schedules_are_canonical():
    record = full_record()
    assert record.costs.speedup == pytest.approx(10.0, rel=1e-15)
    assert record.costs.compression == pytest.approx(10.0, rel=1e-15)
    assert record.stages[0].schedule == "0:0.1,15:0.01"


def test_a_spectrum_knows_its_bins():
    assert SPECTRUM.edges() == pytest.approx([10**-0.8, 10**-0.6, 10**-0.4, 10**-0.2], rel=1e-15)
    assert JSVSummary(1, 0.0, None, None, None, None, None, 0, 10, None).edges() == ()
    with pytest.raises(ValueError, match="stated together"):
        replace(SPECTRUM, first_bin=None)


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_the_seconds_of_an_older_record_are_unstated(schema):
    old = json.loads(to_json(full_record())) | {"schema": schema}
    del old["seconds"]
    assert from_json(json.dumps(old)) == replace(full_record(), seconds={})


def test_a_record_of_version_1_reads_with_its_spectra_unstated():
    old = json.loads(to_json(full_record())) | {"schema": 1}
    for result in old["results"]:
        del result["base_spectrum"], result["pruned_spectrum"]
        for epoch in result["epochs"]:
            del epoch["spectrum"], epoch["mean_jsv_error"]
    lifted = from_json(json.dumps(old))
    assert lifted.results[0].epochs[0] == EpochMetrics(0, 10.0, None, 0.0008, None)
    assert lifted.results[0].pruned_spectrum is None


def test_a_key_that_never_said_anything_is_passed_over_in_older_records():
    old = json.loads(to_json(full_record()))
    spectrum = old["results"][0]["pruned_spectrum"]
    assert "budget" not in spectrum
    spectrum["budget"] = 0
    assert from_json(json.dumps(old)) == full_record()


def test_numpy_scalars_are_written_as_numbers():
    record = replace(full_record(), results=(), summary=Summary(np.float32(50.5), n=np.int64(3)), stages=None)
    assert from_json(to_json(record)).summary == Summary(50.5, n=3)


def edited(**changes):
    return json.loads(to_json(full_record())) | changes


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (edited(datset="x"), "r: unknown key 'datset'; did you mean 'dataset'?"),
        (edited(stages=[{"kind": "retrain", "epoch": 1}]), "stages.0.: unknown key 'epoch'.*'epochs'"),
        (edited(stages=[{"kind": "finetune"}]), "stages.0.: stage kind 'finetune' is unknown; allowed: pre"),
        (edited(stages=[{"kind": "retrain", "epochs": "90"}]), "epochs must be a whole number, got '90'"),
        (edited(stages=[{"kind": "retrain", "epochs": True}]), "must be a whole number, got True"),
        (edited(stages=[{"kind": "retrain", "epochs": -1}]), "can't last -1 epochs"),
        (edited(stages=[{"kind": "retrain", "epochs": 9, "schedule": "1:0.1"}]), "stages.0.: .*starts at ep"),
        (edited(stages=[{"kind": "retrain", "ids": ["x"]}]), "has 1 ids for 2 seeds"),
        (edited(stages={"kind": "retrain"}), "r.stages must be a list"),
        (edited(results=[{"seed": 0}]), r"results\[0\]: the key 'last_accuracy' is missing"),
        (edited(results=[{"seed": 0, "last_accuracy": 101}]), "percentage from 0 to 100, got 101"),
        (edited(results=[{"seed": 0, "last_accuracy": float("nan")}]), "must be a finite number, got nan"),
        (edited(results=[{"seed": 0, "last_accuracy": 9.0}] * 2), "holds a seed twice"),
        (edited(costs={"speedup": 0}), "speedup must be positive, got 0"),
        (edited(summary={"mean": 50, "n": 0}), "n >= 1"),
        (edited(stages=[]), "empty chain; stages=None says"),
        (edited(config=[]), "r.config must be an object"),
        (edited(axes=None), "r.axes must be an object, got None"),
        (edited(name=5), "r.name must be a string, got 5"),
        (edited(schema=99), "schema 99; this release reads 0 to 5"),
        (edited(schema="1"), "states no schema version"),
    ],
)
def test_malformed_records_are_refused_by_place(data, complaint):
    with pytest.raises(ValueError, match=complaint):
        from_json(json.dumps(data), "r")


def test_text_that_is_no_record():
    with pytest.raises(ValueError, match=r"x\.json is no JSON"):
        from_json("{", "x.json")
    with pytest.raises(ValueError, match="must be a JSON object, got list"):
        from_json("[]")
    with pytest.raises(ValueError, match="the key 'name' is missing"):
        from_json('{"schema": 1}')


def test_a_nan_is_refused_when_writing_and_nothing_is_left(tmp_path):
    record = replace(full_record(), config={"loss": float("nan")})
    with pytest.raises(ValueError, match=r"'l1 0\.9' can't be written as JSON"):
        write(record, tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = write(full_record(), tmp_path / "r.json")
    before = path.read_text()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write(replace(full_record(), name="new"), path)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "r.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"r\.json is no UTF-8 text: .* at byte 0"):
        read(tmp_path / "r.json")


def test_read_folder(tmp_path):
    for name in ("b", "a"):
        write(replace(full_record(), name=name), tmp_path / "run" / "records" / f"{name}.json")
    assert [r.name for r in read_folder(tmp_path / "run")] == ["a", "b"]
    assert [r.name for r in read_folder(tmp_path / "run" / "records")] == ["a", "b"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no records"):
        read_folder(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no result folder at"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no record at"):
        read(tmp_path / "nowhere.json")


def test_flat_version_0_is_lifted():
    flat = {
        "schema": 0, "dataset": "cifar10", "network": "resnet56", "method": "l1", "ratio_spec": 0.5, "F1": 10,
        "F2": 5, "params": 7, "base_model_id": "t", "pre_epochs": 200, "prune_epochs": 0, "ft_epochs": 120,
        "ft_schedule": "0:1e-2,60:1e-3", "seed": 4, "acc": 93, "base_acc": 94,
    }  # fmt: skip
    record = from_json(json.dumps(flat))
    assert record.results == (SeedResult(4, 93.0, base_accuracy=94.0),)
    assert [stage.epochs for stage in record.stages] == [200, 0, 120]
    assert record.stages[0].ids == ("t",)
    assert record.stages[2].schedule == "0:0.01,60:0.001"
    assert record.costs.speedup == 2.0
    with pytest.raises(
        ValueError, match=r"f.json \(schema 0\): unknown key 'ft_epoch'; did you mean 'ft_epo"
    ):
        from_json(json.dumps({"schema": 0, "ft_epoch": 1}), "f.json")


def test_migrations_run_in_order_up_to_the_present():
    table = {1: lambda d: d | {"steps": [1]}, 2: lambda d: d | {"steps": [*d["steps"], 2]}}
    assert lift({"schema": 1}, "r", 3, table) == {"steps": [1, 2]}
    assert lift({"schema": 2, "steps": []}, "r", 3, table) == {"steps": [2]}
    assert lift({"schema": 3}, "r", 3, table) == {}


percents = st.floats(0, 100)
texts = st.none() | st.text(max_size=5)
numbers = st.none() | st.floats(1e-3, 1e12)


@st.composite
def records(draw):
    curve = st.builds(EpochMetrics, st.integers(0, 9), percents, numbers, numbers, numbers)
    results = draw(
        st.lists(
            st.builds(
                SeedResult,
                st.integers(0, 9),
                percents,
                percents,
                epochs=st.lists(curve, max_size=2).map(tuple),
            ),
            max_size=3,
            unique_by=lambda r: r.seed,
        )
    )
    stage = st.builds(
        Stage,
        st.sampled_from(["pretrain", "sparsify", "retrain", "scratch"]),
        st.none(),
        st.none() | st.integers(0, 99),
        st.none() | st.sampled_from(["0:0.1", "0:cosine(0.1,0.01)"]),
        numbers,
        st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2),
    )
    return RunRecord(
        draw(st.text(max_size=5)),
        draw(texts),
        draw(texts),
        costs=draw(st.builds(Costs, texts, numbers, numbers, numbers, numbers, numbers, numbers)),
        stages=draw(st.none() | st.lists(stage, min_size=1, max_size=3).map(tuple)),
        results=tuple(results),
        augmentation=draw(st.none() | st.lists(st.text(max_size=3), max_size=2).map(tuple)),
    )


@settings(max_examples=50, derandomize=True, deadline=None)
@given(records())
def test_any_record_survives_the_round_trip(record):
    assert from_json(to_json(record)) == record
