"""A sweep as a job array: submitit starts ``run.py --sweep=i/n`` once per shard, as one would by hand."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.cluster import local_gpus
from prune_jax.experiment.cluster.job_script import ShardJob

LOCAL_RESTARTS = 5  # submitit starts a local job six times at most
HOW_TO_INSTALL = 'pip install "submitit>=1.5.2,<2"'


class JobFailedError(RuntimeError):
    """A job that was waited for has failed. The message names its log."""


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
    """Submit ``command`` once per shard, as a job array where the launcher has them. Returns submitit's jobs.

    ``section`` is ``config.cluster``. Logs go to ``workdir/jobs``. ValueError for settings that are refused.
    """
    import submitit

    logs = (workdir / "jobs").absolute()
    executor = submitit.AutoExecutor(
        str(logs),
        cluster=launcher,
        slurm_max_num_timeout=section.requeues,
        local_max_num_timeout=min(section.requeues, LOCAL_RESTARTS),
    )
    try:
        executor.update_parameters(**parameters(section, workdir.name))
    except (TypeError, ValueError) as error:
        raise ValueError(f"config.cluster: {' '.join(str(error).split())}") from error
    jobs = [
        ShardJob(
            (*command, f"--sweep={i}/{shards}"),
            os.getcwd(),
            local_gpus.environment(os.environ, section.gpus, i) if launcher == "local" else None,
        )
        for i in range(1, shards + 1)
    ]
    try:
        with _importable(), _telling(logs / "submission.log"), executor.batch():
            return [executor.submit(job) for job in jobs]
    except submitit.core.utils.FailedJobError as error:  # a partition, an account or a limit that is refused
        raise ValueError(f"--launcher={launcher}: {_reason(str(error))}; see config.cluster") from error


def parameters(section: ConfigDict, name: str) -> dict[str, Any]:
    """``config.cluster`` as submitit's parameters. What is empty or 0 is left to the cluster's own default."""
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
    if section.cpus:  # since Slurm 22.05 srun doesn't take it over from sbatch
        given["slurm_setup"] = [f"export SRUN_CPUS_PER_TASK={section.cpus}"]
    return {"name": name, "timeout_min": section.minutes, "nodes": 1, "tasks_per_node": 1, **given}


def _reason(told: str) -> str:
    """Of what sbatch says, the line that says why."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[0] if lines else "it was refused")


def wait(jobs: Sequence[Any]) -> None:
    """Wait until all jobs are over. Then JobFailedError names the logs of those that failed.

    Whatever ends the waiting before, such as Ctrl-C, ends the jobs too.
    """
    try:
        failed = [said for job in jobs if (said := _failure(job))]
    except BaseException:
        for job in jobs:
            job.cancel()
        raise
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
def _telling(log: Path) -> Iterator[None]:
    """What is started here writes its stderr to ``log``.

    There submitit's local controllers put a traceback at Ctrl-C, and submitit what sbatch says, told in one line.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    before = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)


@contextlib.contextmanager
def _importable() -> Iterator[None]:
    """Jobs inherit the environment, and unpickle ``ShardJob``: they must find this package, wherever they start."""
    before = os.environ.get("PYTHONPATH")
    here = str(Path(__file__).parents[3])
    os.environ["PYTHONPATH"] = here if not before else f"{here}{os.pathsep}{before}"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def command_of(arguments: Sequence[str], workdir: Path) -> tuple[str, ...]:
    """What a shard's job runs: the command line that submits it, without what says how, in the same folder."""
    program, *flags = arguments
    script = (
        program if program.startswith("-") else str(Path(program).absolute())
    )  # or python's own option -m
    kept = without(flags, ("launcher", "sweep", "workdir"))
    return (sys.executable, script, *kept, f"--workdir={workdir.absolute()}")


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
