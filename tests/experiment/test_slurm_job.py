import pytest

from prune_jax.experiment.processes import slurm


@pytest.mark.parametrize(
    ("environment", "stated"),
    [
        ({}, {}),
        ({"SLURM_JOB_ID": "12"}, {"launcher": "slurm", "id": "12"}),
        (
            {"SLURM_JOB_ID": "15", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"},
            {"launcher": "slurm", "id": "12_3"},
        ),
        ({"SUBMITIT_LOCAL_JOB_ID": "77", "SLURM_JOB_ID": "12"}, {"launcher": "local", "id": "77"}),
    ],
)
def test_the_job_that_the_environment_states(environment, stated):
    assert slurm.current(environment) == stated
