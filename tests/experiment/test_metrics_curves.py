import json

import pytest

from prune_jax.experiment.storage.curves import Metrics

HISTORY = [
    {"epoch": 0, "test_accuracy": 10.0},
    {"epoch": 1, "test_accuracy": 50.0, "train_loss": 0.5},
    {"epoch": 2, "test_accuracy": 60.0, "train_loss": 0.25},
]


def lines(root):
    return [json.loads(line) for line in (root / "metrics" / "r.jsonl").read_text().splitlines()]


def test_a_line_for_every_epoch_as_the_history_grows(tmp_path):
    metrics = Metrics(tmp_path, "r", "L1 0.9", tensorboard=False)
    for length in (1, 2, 2, 3):
        metrics.write("retrain", "id1", 7, HISTORY[:length])
    metrics.write("retrain", "id2", 8, HISTORY[:1])
    assert [(line["id"], line["seed"], line["epoch"]) for line in lines(tmp_path)] == [
        ("id1", 7, 0),
        ("id1", 7, 1),
        ("id1", 7, 2),
        ("id2", 8, 0),
    ]
    assert lines(tmp_path)[1] == {
        "run": "L1 0.9", "stage": "retrain", "seed": 7, "id": "id1", **HISTORY[1]
    }  # fmt: skip
    assert not (tmp_path / "tensorboard").exists()


def test_killed_while_writing_no_line_is_there_twice_and_none_is_missing(tmp_path):
    """Cut at every byte, and gone on with from an epoch before the cut, as from a checkpoint."""
    Metrics(tmp_path, "r", "x", tensorboard=False).write("retrain", "id1", 0, HISTORY)
    path = tmp_path / "metrics" / "r.jsonl"
    whole = path.read_bytes()
    for cut in range(0, len(whole) + 1, 7):
        path.write_bytes(whole[:cut])
        again = Metrics(tmp_path, "r", "x", tensorboard=False)
        for length in (1, 2, 3):
            again.write("retrain", "id1", 0, HISTORY[:length])
        assert path.read_bytes() == whole


def test_event_files_hold_numbers_alone_and_a_new_launch_adds_a_file(tmp_path):
    metrics = Metrics(tmp_path, "0123456789", "L1/0.9, LR 1e-2")
    metrics.write("pretrain", "id1", 3, [{"epoch": 0, "test_accuracy": 10.0, "spectrum": [1.0, 2.0]}])
    (folder,) = (tmp_path / "tensorboard").iterdir()
    assert folder.name == "L1_0.9_LR_1e-2-012345"
    (first,) = (folder / "seed3").iterdir()
    content = first.read_bytes()
    assert b"pretrain/test_accuracy" in content
    assert b"spectrum" not in content
    again = Metrics(tmp_path, "0123456789", "L1/0.9, LR 1e-2")
    again.write("pretrain", "id1", 3, [{"epoch": 0, "test_accuracy": 10.0}])
    assert [*(folder / "seed3").iterdir()] == [first]  # nothing to add, no file
    again.write("pretrain", "id1", 3, [{"epoch": 0}, {"epoch": 1, "test_accuracy": 11.0}])
    assert len([*(folder / "seed3").iterdir()]) == 2
    assert first.read_bytes() == content


def test_a_line_that_is_no_metric_is_named(tmp_path):
    (tmp_path / "metrics").mkdir()
    file = tmp_path / "metrics" / "run.jsonl"
    file.write_text("garbage\n")
    with pytest.raises(
        ValueError, match=rf"{file} holds a line that is no metric, 'garbage': remove the line"
    ):
        Metrics(tmp_path, "run", "a run")
