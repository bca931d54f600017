"""The job that this process is part of, as its environment states it."""

from collections.abc import Mapping


def current(environment: Mapping[str, str]) -> dict[str, str]:
    """``launcher`` ('slurm', or 'local' for submitit's local executor) and the job's ``id``; empty outside a job.

    A task of a Slurm job array is named as Slurm does, ARRAY_TASK; a job requeued keeps its id.
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
