"""GPUs that Slurm gave a node, and what the processes there would use of them."""

import pytest

from prune_jax.experiment.processes import slurm

EIGHT = {"SLURM_GPUS_ON_NODE": "8", "SLURM_NODEID": "0"}


@pytest.mark.parametrize(
    ("tasks", "number", "devices"),
    [
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x4)"}, "3", 1),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x4)"}, "0", 8),  # a JAX that doesn't look at Slurm
        ({"SLURM_TASKS_PER_NODE": "2,8(x2)"}, "2", 1),
        ({"SLURM_TASKS_PER_NODE": "8"}, "5", 1),  # no such node: what is not understood is not refused
        ({"SLURM_TASKS_PER_NODE": "many"}, "0", 1),
        ({}, "0", 1),
    ],
)
def test_a_node_in_full_use_is_left_alone(tasks, number, devices):
    slurm.refuse_idle_gpus({**EIGHT, **tasks, "SLURM_NODEID": number}, "gpu", devices)


@pytest.mark.parametrize(
    ("tasks", "number", "message"),
    [
        ("1(x4)", "3", "8 GPUs, of which 1 process would use 1: .* --ntasks-per-node=8, or .*per-node=1"),
        ("8(x2),4", "2", "8 GPUs, of which 4 processes would use 4: .*--gpus-per-node=4"),
    ],
)
def test_gpus_that_would_be_idle_are_refused(tasks, number, message):
    given = {**EIGHT, "SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_NODEID": number}
    with pytest.raises(ValueError, match=message):
        slurm.refuse_idle_gpus(given, "gpu", 1)
    slurm.refuse_idle_gpus(given, "cpu", 1)  # meant: JAX_PLATFORMS=cpu; else it is refused for that
    slurm.refuse_idle_gpus({**given, "SLURM_GPUS_ON_NODE": ""}, "gpu", 1)


@pytest.mark.parametrize(
    ("environment", "gpus", "refused"),
    [
        (
            {"SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "8"},
            0,
            r"has GPUs \(8\), but JAX finds none: .*jax\[cuda12\]==",
        ),
        ({"SLURM_JOB_ID": "7"}, 1, r"has GPUs \(1\)"),
        ({}, 1, ""),  # on a laptop the config's cluster makes no difference
        ({"SLURM_JOB_ID": "7"}, 0, ""),
        ({"SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "8", "JAX_PLATFORMS": "cpu"}, 0, ""),
    ],
)
def test_gpus_that_jax_does_not_see(environment, gpus, refused):
    slurm.refuse_missing_gpus(environment, "gpu", gpus)
    if not refused:
        slurm.refuse_missing_gpus(environment, "cpu", gpus)
        return
    with pytest.raises(ValueError, match=refused):
        slurm.refuse_missing_gpus(environment, "cpu", gpus)
