"""run.py and python -m prune_jax run: one command under two names."""

import os
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from prune_jax import run_command
from prune_jax.experiment.cluster import submit

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize("program", [("run.py",), ("-m", "prune_jax", "run")])
def test_help_names_the_command_and_every_flag(program, capsys):
    with pytest.raises(SystemExit) as left:
        run_command.start(program, ["--config=configs/table1.py", "--help"])
    assert left.value.code == 0
    first, _, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"usage: python {' '.join(program)} --config=configs/NAME.py")
    values = flags.FlagValues()
    run_command.define_flags(values)
    assert [line.split()[0] for line in lines] == [f"--{name}" for name in values]
    assert "workdir" not in flags.FLAGS


def test_a_launchers_jobs_run_the_module_too(tmp_path):
    given = ["-m", "prune_jax", "run", "--config=a.py", "--sweep=all", "--launcher=local"]
    kept = ("-m", "prune_jax", "run", "--config=a.py", f"--workdir={tmp_path}")
    assert submit.command_of(given, tmp_path) == (sys.executable, *kept)


@pytest.mark.slow
def test_both_do_the_same_and_records_state_which(tmp_path):
    """From another folder, as where the package is installed."""
    found = []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": str(tmp_path / "tfds")}
    config = f"--config={ROOT / 'configs' / 'mystery1_convnet.py'}:quick"
    for program in ([str(ROOT / "run.py")], ["-m", "prune_jax", "run"]):
        command = [sys.executable, *program, config, "--config.retrain_epochs=(1,)", "--dry_run"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
    assert found[0] == found[1]
    assert "nothing was started" in found[0]
    command = [
        sys.executable,
        "-m",
        "prune_jax",
        "run",
        config.replace("_convnet", "_mlp7"),
        "--config.seeds=(0,)",
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = tmp_path / "runs" / "mystery1_mlp7_quick" / "report.md"
    assert done.stdout.splitlines()[-1] == f"report: {report.relative_to(tmp_path)}"
    assert "Command: `python -m prune_jax run --config=" in report.read_text()
