"""Slurm, as its environment states it: the job this process is part of, and its GPUs."""

import re
from collections.abc import Mapping
from importlib.metadata import version


def current(environment: Mapping[str, str]) -> dict[str, str]:
    """``launcher`` ('slurm', or 'local' for submitit's local executor) and the job's ``id``. Empty outside a job.

    A task of a Slurm job array is named as Slurm does, ARRAY_TASK. A job requeued keeps its id.
    """
    get = environment.get
    if get("SUBMITIT_LOCAL_JOB_ID"):
        return {"launcher": "local", "id": environment["SUBMITIT_LOCAL_JOB_ID"]}
    if get("SLURM_ARRAY_JOB_ID"):
        return {
            "launcher": "slurm",
            "id": f"{environment['SLURM_ARRAY_JOB_ID']}_{get('SLURM_ARRAY_TASK_ID', '0')}",
        }
    if get("SLURM_JOB_ID"):
        return {"launcher": "slurm", "id": environment["SLURM_JOB_ID"]}
    return {}


def refuse_missing_gpus(environment: Mapping[str, str], backend: str, gpus: int) -> None:
    """ValueError in a job that has GPUs, by Slurm's word or as ``gpus`` asks, where JAX computes on the CPU."""
    asked = gpus if "SLURM_JOB_ID" in environment else 0
    given = environment.get("SLURM_GPUS_ON_NODE") or asked
    if given and backend == "cpu" and environment.get("JAX_PLATFORMS") != "cpu":
        raise ValueError(
            f"this job has GPUs ({given}), but JAX finds none: install JAX for them into this environment, "
            f'pip install "jax[cuda12]=={version("jax")}", or say that the CPU is meant, JAX_PLATFORMS=cpu'
        )


def refuse_idle_gpus(environment: Mapping[str, str], backend: str, devices: int) -> None:
    """ValueError where Slurm gave this node more GPUs than its processes, of ``devices`` each, use.

    Under Slurm JAX gives a process the one GPU that its number on the node names, however many there are.
    """
    given = environment.get("SLURM_GPUS_ON_NODE", "")
    per_node = _counts(
        environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE", "")
    )
    this = int(environment.get("SLURM_NODEID", "0"))
    if backend == "cpu" or not given.isdigit() or this >= len(per_node):
        return
    processes = per_node[this]
    if processes * devices < int(given):
        raise ValueError(
            f"this node has {given} GPUs, of which {processes} process{'es' * (processes > 1)} would use "
            f"{processes * devices}: under Slurm JAX gives each process one; give sbatch "
            f"--ntasks-per-node={given}, or fewer GPUs (--gpus-per-node={processes * devices})"
        )


def _counts(text: str) -> list[int]:
    """Slurm's short form of a number for each node: ``2(x3),1`` is 2, 2, 2, 1. Empty for anything else."""
    if not re.fullmatch(r"\d+(\(x\d+\))?(,\d+(\(x\d+\))?)*", text):
        return []
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(number) for number, times in found for _ in range(int(times or 1))]
