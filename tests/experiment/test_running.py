"""Experiments from Python: records come back, and come back the same."""

import pathlib
import sys
import threading

import pytest
import tiny_sweep

import prune_jax.experiment
from prune_jax import fairness, report

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path_factory):
    made = tiny_sweep.get_config()
    made.dataset.data_dir = str(tmp_path_factory.mktemp("tfds"))
    made.pretrain.epochs = made.retrain.epochs = 1
    made.checkpoint_seconds = 1e9
    made.ratios = (0.7, 0.5)
    return made


@pytest.mark.slow
def test_the_records_of_a_sweep_in_its_order_and_again_without_work(config, tmp_path, capsys):
    records = prune_jax.experiment.run(config, tiny_sweep.sweep, tmp_path / "w")
    assert [record.name for record in records] == ["L1 0.7", "L1 0.5"]
    assert all(len(record.accuracies) == 2 for record in records)
    on_disk = fairness.read_folder(tmp_path / "w")
    assert sorted(records, key=lambda record: record.name) == sorted(on_disk, key=lambda record: record.name)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "w").glob("*/*/stage.json")}
    assert len(before) == 2 + 4 + 4  # pretraining is shared by both ratios
    assert not (tmp_path / "w" / "report.md").exists()
    again = prune_jax.experiment.run(config, tiny_sweep.sweep, tmp_path / "w", report.write)
    assert again == records
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert "L1 0.5" in (tmp_path / "w" / "report.md").read_text()


def test_a_notebooks_cell_may_run_in_a_thread_of_its_own(config, tmp_path):
    found = []

    def cell():
        found.extend(prune_jax.experiment.run(config, workdir=tmp_path / "w"))

    config.seeds = (0,)

    thread = threading.Thread(target=cell)
    thread.start()
    thread.join()
    (record,) = found
    assert record.command == "prune_jax.experiment.run"


def test_a_file_brings_its_sweep_and_its_small_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    source = (ROOT / "tests" / "tiny_sweep.py").read_text().replace('"orthp"', '"orthp"; import beside_it')
    pathlib.Path("mine").mkdir()
    pathlib.Path("mine/beside_it.py").touch()
    before = list(sys.path)
    values = "{'pretrain.epochs': 1, 'retrain.epochs': 1, 'ratios': (0.9,), 'seeds': (0,)}"
    small = f"def quick(config):\n    return {values}\n"
    pathlib.Path("mine/config.py").write_text(f"{source}\n\n{small}")
    (record,) = prune_jax.experiment.run("mine/config.py:quick")
    assert sys.path == before
    assert record.name == "L1 0.9"
    assert record.command == "prune_jax.experiment.run('mine/config.py:quick')"
    assert len(list(pathlib.Path("runs/tiny_sweep_quick/records").glob("*.json"))) == 1


def test_what_cant_be_run_is_refused_before_any_work(config, tmp_path):
    config.sparsify.recovery = "orth"
    with pytest.raises(ValueError, match=r"sparsify.recovery is 'orth'; allowed: none, orthp"):
        prune_jax.experiment.run(config, workdir=tmp_path / "w")
    with pytest.raises(ValueError, match=r"nowhere.py: there is no such file"):
        prune_jax.experiment.run("nowhere.py", workdir=tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'runs'; it offers run"):
        prune_jax.experiment.runs  # noqa: B018
