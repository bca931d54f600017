"""A sweep as a job array: submitit starts ``run.py --sweep=i/n`` once per shard, as one would by hand."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.preemption import EXIT_CODE

GRACE = 60.0  # seconds that a run has to save its state when its job is about to be stopped
HOW_TO_INSTALL = 'pip install "submitit>=1.5.2,<2"'


class JobFailedError(RuntimeError):
    """A job that was waited for has failed; the message names its log."""


class ShardJob:
    """What one job does: run a command. Preempted or out of time, it ends the command and asks to be queued again."""

    def __init__(self, command: Sequence[str], folder: str) -> None:
        self.command, self.folder = tuple(command), folder
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run the command to its end; CalledProcessError when it fails."""
        # Slurm sends submitit's signal to every process of a job; the command shall hear of it from here alone.
        self._process = subprocess.Popen(self.command, cwd=self.folder, preexec_fn=_ignore_preemption)
        while (
            code := self._process.poll()
        ) is None:  # no wait(): a signal's handler could not wait inside it
            time.sleep(0.1)
        if code == EXIT_CODE:  # Slurm told the run itself that its time is up: to submitit, a preemption
            signal.raise_signal(signal.SIGUSR2)
        if code:
            raise subprocess.CalledProcessError(code, self.command)

    def checkpoint(self) -> Any:
        """What submitit queues again, once the command has saved its state."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
        return DelayedSubmission(ShardJob(self.command, self.folder))


def check(launcher: str, sweep: str) -> None:
    """Raise ValueError where ``launcher`` can't submit jobs from here, or ``sweep`` names a shard already."""
    if sweep != "all":
        raise ValueError(
            f"--launcher={launcher} with --sweep={sweep}: a launcher submits every shard itself; "
            "leave --sweep out and say how many in --config.cluster.shards"
        )
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise ValueError(f"--launcher={launcher} needs submitit ({error}): {HOW_TO_INSTALL}") from error
    if launcher == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise ValueError(
            "--launcher=slurm: there is no sbatch and srun on this machine: submit from a login node, "
            "or try --launcher=local"
        )


def submit(
    launcher: str, section: ConfigDict, command: Sequence[str], workdir: Path, shards: int
) -> list[Any]:
    """Submit ``command`` once per shard, as a job array where the launcher has them; submitit's jobs.

    ``section`` is ``config.cluster``. Logs go to ``workdir/jobs``. ValueError for settings that are refused.
    """
    import submitit

    executor = submitit.AutoExecutor(
        str((workdir / "jobs").absolute()), cluster=launcher, slurm_max_num_timeout=section.requeues
    )
    try:
        executor.update_parameters(**parameters(section, workdir.name))
    except (TypeError, ValueError) as error:
        raise ValueError(f"config.cluster: {' '.join(str(error).split())}") from error
    jobs = [ShardJob((*command, f"--sweep={i}/{shards}"), os.getcwd()) for i in range(1, shards + 1)]
    try:
        with _importable(), executor.batch():
            return [executor.submit(job) for job in jobs]
    except submitit.core.utils.FailedJobError as error:  # a partition, an account or a limit that is refused
        raise ValueError(f"--launcher={launcher}: {_reason(str(error))}; see config.cluster") from error


def parameters(section: ConfigDict, name: str) -> dict[str, Any]:
    """``config.cluster`` as submitit's parameters; what is empty or 0 is left to the cluster's own default."""
    if section.minutes < 1 or section.shards < 1:
        raise ValueError(
            f"cluster.minutes is {section.minutes} and cluster.shards {section.shards}; both are at least 1"
        )
    asked = {
        "gpus_per_node": section.gpus,
        "cpus_per_task": section.cpus,
        "mem_gb": section.memory_gb,
        "slurm_partition": section.partition,
        "slurm_account": section.account,
        "slurm_qos": section.qos,
        "slurm_constraint": section.constraint,
        "slurm_array_parallelism": section.at_once,
    }
    given = {key: value for key, value in asked.items() if value}
    return {"name": name, "timeout_min": section.minutes, "nodes": 1, "tasks_per_node": 1, **given}


def _reason(told: str) -> str:
    """Of what sbatch says, the line that says why."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[0] if lines else "it was refused")


def wait(jobs: Sequence[Any]) -> None:
    """Until all jobs are over; then JobFailedError naming the logs of those that failed."""
    failed = [said for job in jobs if (said := _failure(job))]
    if failed:
        raise JobFailedError("; ".join(failed))


def _failure(job: Any) -> str:
    error = job.exception()  # waits for the job's end
    if error is None:
        return ""
    told = job.stderr() or ""
    last = next((line for line in told.splitlines() if line.startswith("error: ")), type(error).__name__)
    return f"job {job.job_id} failed ({last}); its log is {job.paths.stderr}"


@contextlib.contextmanager
def _importable() -> Iterator[None]:
    """Jobs inherit the environment, and unpickle ``ShardJob``: they must find this package, wherever they start."""
    before = os.environ.get("PYTHONPATH")
    here = str(Path(__file__).parents[2])
    os.environ["PYTHONPATH"] = here if not before else f"{here}{os.pathsep}{before}"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _ignore_preemption() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def command_of(arguments: Sequence[str], workdir: Path) -> tuple[str, ...]:
    """What a shard's job runs: the command line that submits it, without what says how, in the same folder."""
    script, *flags = arguments
    kept = without(flags, ("launcher", "sweep", "workdir"))
    return (sys.executable, str(Path(script).absolute()), *kept, f"--workdir={workdir.absolute()}")


def without(flags: Sequence[str], names: Sequence[str]) -> list[str]:
    """Command-line ``flags`` less those named: ``--name=value``, ``-name=value`` and ``--name value``."""
    kept, rest = [], list(flags)
    while rest:
        flag = rest.pop(0)
        name, given, _ = flag.lstrip("-").partition("=")
        if not flag.startswith("-") or name not in names:
            kept.append(flag)
        elif not given and rest:
            rest.pop(0)
    return kept
