"""Committed reports are what today's code makes of the committed records, and --report_only is the command for it."""

import ast
import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest

from prune_jax import fairness, report
from prune_jax.experiment.config import flags, sweep
from prune_jax.report import reading
from prune_jax.report.write import PAGE

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = sorted(path.parent for path in (ROOT / "results").glob("*/records"))
COMMAND = (
    "python run.py --config={config} --workdir=results/{name} --report_only --config.report.interactive=False"
)


def given_to(record):
    """The config's file and the keys that were given when the record was made, from the command that it states."""
    words = [word[2:].partition("=") for word in shlex.split(record.command) if word.startswith("--")]
    (file,) = (value for name, _, value in words if name == "config")
    # A flag without a value, as --config.long, says that it holds.
    given = [
        (name[7:], _value(text) if sign else True) for name, sign, text in words if name.startswith("config.")
    ]
    return file, dict(given)


def _value(text):
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def config_of(record):
    """The config as it was asked for, and the labels of its runs."""
    file, keys = given_to(record)
    module = flags.load_module(str(ROOT / file))
    config = flags.resolved(sweep.override(module.get_config(), keys), module, keys)
    runs = module.sweep(config) if hasattr(module, "sweep") else []
    return config, [str(run.get("label")) for run in runs]


@pytest.mark.parametrize("home", RESULTS, ids=lambda path: path.name)
def test_a_committed_report_is_what_its_records_say_today(home, tmp_path):
    records = fairness.read_folder(home)
    config, labels = config_of(records[0])
    if {record.network for record in records} != {config.model.name}:
        pytest.skip(f"{home.name} holds records of {records[0].network}; the config's network is another now")
    if (home / "figures").exists():
        (tmp_path / "figures").symlink_to(home / "figures")
    layout = {**config.report.to_dict(), "interactive": False}
    made = report.write(tmp_path, reading.in_order(records, labels), layout, max(len(labels), 1), draw=False)
    committed = [line for line in (home / "report.md").read_text().splitlines() if f"({PAGE})" not in line]
    command = COMMAND.format(config=given_to(records[0])[0], name=home.name)
    again = f"write it again, with the keys of its records' command: {command}"
    assert _without_gaps(made.read_text().splitlines()) == _without_gaps(committed), again


def _without_gaps(lines):
    return [line for line in lines if line]


@pytest.mark.slow
def test_report_only_writes_the_report_of_records_alone(tmp_path):
    """From the smallest results: the committed text, the figures that it shows, and nothing else is changed."""
    home = ROOT / "results" / "mystery1_convnet"
    shutil.copytree(home / "records", tmp_path / "records")
    records = {path.name: path.read_bytes() for path in (tmp_path / "records").iterdir()}
    command = [sys.executable, "run.py", "--config=configs/mystery1_convnet.py", f"--workdir={tmp_path}"]
    command += ["--report_only", "--config.report.interactive=False"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {tmp_path / 'report.md'}"
    assert (tmp_path / "report.md").read_text() == (home / "report.md").read_text()
    assert {path.name: path.read_bytes() for path in (tmp_path / "records").iterdir()} == records
    assert {path.name for path in tmp_path.iterdir()} == {"records", "figures", "report.md"}
    shown = {path.stem for path in (home / "figures").glob("*.png")}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"{name}.{kind}" for name in shown for kind in ("png", "pdf")
    }
    done = subprocess.run([*command, "--dry_run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "--report_only starts no run, so --dry_run has no effect beside it" in done.stderr
