"""A job that has a GPU and computes on the CPU is refused before any work."""

import pytest

from prune_jax.experiment import launch


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
def test_gpus_that_jax_does_not_see(monkeypatch, environment, gpus, refused):
    for name in ("SLURM_JOB_ID", "SLURM_GPUS_ON_NODE", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launch.jax, "default_backend", lambda: "cpu")
    if not refused:
        launch._refuse_missing_gpu(gpus)
        return
    with pytest.raises(ValueError, match=refused):
        launch._refuse_missing_gpu(gpus)
