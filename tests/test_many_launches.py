"""Launches that are killed, that run beside one another and that a cluster's launcher starts."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TINY = "--config=tests/tiny_sweep.py"

AT_ONCE = """
import pathlib, sys
from benchmarks import forked

root = pathlib.Path(sys.argv[1])
flags = ["--config=tests/tiny_sweep.py", "--config.ratios=(0.2,0.4,0.6,0.8)"]
forked.prepare(root / "cache")
forked.run_to_the_end(flags, root / "serial")
shards = [forked.start([*flags, f"--sweep={i}/4"], root / "shards") for i in range(1, 5)]
assert all(forked.ended(child) for child in shards)
print(*forked.differences(forked.outcome(root / "serial"), forked.outcome(root / "shards")), sep="\\n")
before = {path: path.stat().st_mtime_ns for path in root.glob("*/stages/*/stage.json")}
wanted = forked.outcome(root / "serial")
forked.run_to_the_end([*flags, "--sweep"], root / "serial")
assert forked.outcome(root / "serial") == wanted
assert {path: path.stat().st_mtime_ns for path in before} == before, "trained again"
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return {**os.environ, "TFDS_DATA_DIR": str(tmp_path_factory.mktemp("tfds")), "JAX_PLATFORMS": "cpu"}


def python(environment, *arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_killed_twenty_times_it_ends_bit_for_bit_as_if_never(environment):
    done = python(environment, "-m", "benchmarks.kill", "--kills=20", "--", TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("20 kills in ")


@pytest.mark.slow
def test_four_shards_at_once_on_an_empty_workdir_give_the_serial_sweeps_records(environment, tmp_path):
    done = python(environment, "-c", AT_ONCE, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == ""
    assert len(list((tmp_path / "shards" / "records").glob("*.json"))) == 4
    assert f"report: {tmp_path / 'serial' / 'report.md'}" in (tmp_path / "serial.log").read_text()


@pytest.mark.slow
def test_a_launcher_runs_every_shard_and_the_records_say_which_job_made_them(environment, tmp_path):
    pytest.importorskip("submitit")
    arguments = (TINY, "--config.ratios=(0.3,0.5)", f"--workdir={tmp_path / 'w'}", "--launcher=local")
    done = python(environment, "run.py", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "w").glob("records/*.json")]
    jobs = {record["name"]: record["job"] for record in records}
    assert jobs.keys() == {"L1 0.3", "L1 0.5"}
    assert {job["launcher"] for job in jobs.values()} == {"local"}
    assert len({job["id"] for job in jobs.values()}) == 2
    assert all(job["id"] in done.stdout for job in jobs.values())
    assert done.stdout.splitlines()[-1] == f"report: {tmp_path / 'w' / 'report.md'}"
