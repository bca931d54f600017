import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

from prune_jax.experiment.cluster import submit
from prune_jax.experiment.config.defaults import default_config


def test_a_jobs_command_is_the_submitting_one_as_a_shard(tmp_path):
    given = [
        "run.py",
        "--config=configs/a.py",
        "--launcher",
        "slurm",
        "--sweep=all",
        "--config.seeds=(0,)",
        "-workdir=w",
    ]
    command = submit.command_of(given, tmp_path / "w")
    root = pathlib.Path.cwd()
    kept = ("--config=configs/a.py", "--config.seeds=(0,)")
    assert command == (sys.executable, str(root / "run.py"), *kept, f"--workdir={tmp_path / 'w'}")


def test_flags_are_left_out_in_every_spelling_and_no_other():
    flags = ["--a=1", "-a=1", "--a", "1", "-a", "1", "--ab=1", "--b", "a", "--nob"]
    assert submit.without(flags, ("a",)) == ["--ab=1", "--b", "a", "--nob"]


def test_what_the_cluster_decides_is_left_to_it():
    section = default_config().cluster
    assert submit.parameters(section, "w").keys() == {"name", "timeout_min", "nodes", "tasks_per_node"}
    section.update(gpus=2, partition="a100", account="me", at_once=4)
    asked = submit.parameters(section, "w")
    assert (asked["gpus_per_node"], asked["slurm_partition"]) == (2, "a100")
    assert (asked["slurm_account"], asked["slurm_array_parallelism"]) == ("me", 4)
    assert "slurm_setup" not in asked  # no CPUs were asked for
    section.shards = 0
    with pytest.raises(ValueError, match=r"cluster.shards 0; both are at least 1"):
        submit.parameters(section, "w")


def test_where_nothing_can_be_submitted_it_is_told(monkeypatch):
    with pytest.raises(ValueError, match=r"--sweep=1/4: a launcher submits every shard itself"):
        submit.check("local", "1/4")
    monkeypatch.setattr(submit.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="no sbatch and srun on this machine: submit from a login node"):
        submit.check("slurm", "all")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match=r'--launcher=local needs submitit .*: pip install "submitit'):
        submit.check("local", "all")


def test_slurm_is_asked_for_what_the_config_says(tmp_path, monkeypatch):
    """The sbatch file, with commands in Slurm's place that keep it."""
    pytest.importorskip("submitit")
    for name, line in (("srun", ""), ("sbatch", f"cp $1 {tmp_path}/asked; echo Submitted batch job 41")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    submit.check("slurm", "all")
    section = default_config().cluster
    section.update(gpus=1, cpus=8, partition="a100", minutes=90, at_once=2)
    jobs = submit.submit("slurm", section, ("true",), tmp_path / "sweep", 3)
    assert [job.job_id for job in jobs] == ["41_0", "41_1", "41_2"]
    asked = (tmp_path / "asked").read_text()
    for line in ("--array=0-2%2", "--partition=a100", "--gpus-per-node=1", "--time=90", "--job-name=sweep"):
        assert f"#SBATCH {line}\n" in asked
    assert "--signal=USR2@90" in asked
    # since Slurm 22.05 srun doesn't take the CPUs over from sbatch
    lines = asked.splitlines()
    (srun,) = (i for i, line in enumerate(lines) if line.startswith("srun "))
    assert "#SBATCH --cpus-per-task=8" in lines
    assert lines.index("export SRUN_CPUS_PER_TASK=8") < srun
    commands = [job.submission().function.command for job in jobs]
    assert commands == [("true", f"--sweep={i}/3") for i in (1, 2, 3)]


def test_a_job_that_is_preempted_ends_its_command_and_asks_to_be_queued_again(tmp_path):
    pytest.importorskip("submitit")
    script = (
        "import os, pathlib, signal, sys, time\n"
        "def save(*_): pathlib.Path('saved').touch(); sys.exit(3)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "pathlib.Path('starting').write_text(str(os.getpid()))\n"
        "os.rename('starting', 'ready')\n"
        "time.sleep(60)\n"
    )
    job = submit.ShardJob((sys.executable, "-c", script), str(tmp_path))
    failed: list[BaseException] = []

    def run() -> None:
        try:
            job()
        except subprocess.CalledProcessError as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    # Slurm's warning reaches every process; it must not end the run
    os.kill(int((tmp_path / "ready").read_text()), signal.SIGUSR2)
    again = job.checkpoint()
    thread.join()
    assert (tmp_path / "saved").exists()
    assert failed[0].returncode == 3
    assert again.function.command == job.command
    assert pickle.loads(pickle.dumps(again.function)).command == job.command  # as submitit keeps it


def test_a_run_that_slurm_itself_asked_to_end_is_queued_again_too(tmp_path):
    told = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: told.append(number))  # in submitit's place
    try:
        with pytest.raises(subprocess.CalledProcessError):
            submit.ShardJob((sys.executable, "-c", "raise SystemExit(75)"), str(tmp_path))()
        assert told == [signal.SIGUSR2]
        at_once = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"  # before it could notice
        with pytest.raises(subprocess.CalledProcessError):
            submit.ShardJob((sys.executable, "-c", at_once), str(tmp_path))()
        assert told == [signal.SIGUSR2] * 2
        with pytest.raises(subprocess.CalledProcessError):
            submit.ShardJob((sys.executable, "-c", "raise SystemExit(1)"), str(tmp_path))()
        assert told == [signal.SIGUSR2] * 2
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_what_sbatch_refuses_is_told_in_its_own_line(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    refusal = "sbatch: error: invalid partition specified: a101"
    for name, line in (
        ("srun", ""),
        ("sbatch", f"echo '{refusal}' >&2; echo 'sbatch: error: Batch' >&2; exit 1"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ValueError, match=rf"^--launcher=slurm: .*{refusal}.*; see config.cluster$"):
        submit.submit("slurm", default_config().cluster, ("true",), tmp_path / "sweep", 2)


class Ended:
    """A job that is over, as submitit shows it."""

    def __init__(self, job_id, error=None):
        self.job_id, self._error, self.asked, self.cancelled = job_id, error, False, False
        self.paths = types.SimpleNamespace(stderr=f"jobs/{job_id}.err")

    def exception(self):
        self.asked = True
        if isinstance(self._error, KeyboardInterrupt):
            raise self._error
        return self._error

    def cancel(self):
        self.cancelled = True

    def stderr(self):
        return "a traceback\nerror: no disk\n"


def test_jobs_end_with_who_waits_for_them():
    jobs = [Ended("1"), Ended("2", KeyboardInterrupt()), Ended("3")]
    with pytest.raises(KeyboardInterrupt):
        submit.wait(jobs)
    assert all(job.cancelled for job in jobs)


def test_a_commands_environment_is_the_jobs_but_for_what_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as submitit's local executor sets it
    monkeypatch.setenv("KEPT", "here")
    names = ("CUDA_VISIBLE_DEVICES", "KEPT", "NEW")
    script = f"import os; open('seen', 'w').write(str([os.environ.get(n) for n in {names}]))"
    for said, seen in (
        ({}, ["", "here", None]),
        ({"CUDA_VISIBLE_DEVICES": None, "NEW": "1"}, [None, "here", "1"]),
    ):
        job = submit.ShardJob((sys.executable, "-c", script), str(tmp_path), said)
        job()
        assert (tmp_path / "seen").read_text() == str(seen)
        assert job.checkpoint().function.environment == said


def test_all_jobs_are_waited_for_and_every_one_that_failed_is_named():
    jobs = [Ended("1", OSError()), Ended("2"), Ended("3", OSError())]
    with pytest.raises(submit.JobFailedError) as error:
        submit.wait(jobs)
    assert str(error.value) == "; ".join(
        f"job {i} failed (error: no disk); its log is jobs/{i}.err" for i in ("1", "3")
    )
    assert all(job.asked for job in jobs)
    submit.wait(jobs[1:2])
