"""A run that diverges ends alone: the rest of its sweep is done and reported."""

import json

import pytest
import tiny_sweep

from prune_jax.experiment import launch
from prune_jax.experiment.training.divergence import TrainingDivergedError


@pytest.mark.slow
def test_the_other_runs_are_done_and_the_diverged_one_is_told_at_the_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    config = tiny_sweep.get_config()
    config.retrain.epochs = config.pretrain.epochs = 1

    def sweep(config):
        return [{"label": f"LR {lr:g}", "retrain.schedule": f"0:{lr!r}"} for lr in (1e-2, 1e30, 1e-3)]

    written = []

    def write(folder, records, layout, runs, draw):
        written.append([record.name for record in records])
        return folder / "report.md"

    def run():
        with pytest.raises(TrainingDivergedError) as error:
            launch.launch(config, sweep, tmp_path / "w", "a test", write)
        return str(error.value)

    said = run()
    assert said.startswith(
        f"1 of 3 runs diverged, the others are done (report: {tmp_path / 'w' / 'report.md'}): run 2."
    )
    assert "Run 2, LR 1e+30: train loss is" in said
    assert written[-1] == ["LR 0.01", "LR 0.001"]
    assert "run 2/3 LR 1e+30 diverged; the others go on" in capsys.readouterr().out
    stages = {f: f.stat().st_mtime_ns for f in (tmp_path / "w").glob("stages/*/stage.json")}
    assert "known from before" in run()
    assert stages == {f: f.stat().st_mtime_ns for f in (tmp_path / "w").glob("stages/*/stage.json")}
    kinds = [json.loads(f.read_text())["kind"] for f in stages]
    assert kinds.count("retrain") == 4  # two runs, two seeds
