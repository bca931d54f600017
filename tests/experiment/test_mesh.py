"""The mesh: its shape and its specs by hand; what runs on it, in a process of eight simulated devices."""

import os
import pathlib
import subprocess
import sys

import pytest

from prune_jax.experiment.devices import mesh
from prune_jax.experiment.devices.mesh import MeshShape

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("backend", "asked", "devices", "replicas", "wanted"),
    [
        ("cpu", (0, 0, 1), 1, 5, (0, 1, 1)),
        ("cpu", (0, 0, 1), 8, 5, (0, 1, 1)),  # apart
        ("cpu", (0, 0, 1), 8, 1, (0, 1, 1)),
        ("cpu", (0, 8, 1), 8, 1, (1, 8, 1)),
        ("cpu", (0, 2, 1), 8, 16, (4, 2, 1)),
        ("gpu", (0, 0, 1), 8, 1, (1, 8, 1)),
        ("gpu", (0, 0, 1), 8, 4, (0, 1, 1)),
        ("gpu", (0, 0, 4), 8, 6, (2, 1, 4)),
        ("gpu", (0, 0, 2), 8, 3, (1, 4, 2)),
        ("gpu", (1, 4, 1), 8, 1, (1, 4, 1)),  # a mesh may leave devices alone
    ],
)
def test_zeros_are_filled_in(backend, asked, devices, replicas, wanted):
    shape = mesh.choose(MeshShape(*asked), devices=devices, replicas=replicas, backend=backend)
    assert shape[:3] == wanted


@pytest.mark.parametrize(("replicas", "wanted"), [(1, (1, 8, 1)), (3, (1, 8, 1)), (6, (2, 4, 1))])
def test_several_processes_take_all_devices(replicas, wanted):
    asked = MeshShape(0, 0, 1)
    shape = mesh.choose(asked, devices=8, replicas=replicas, backend="cpu", processes=2)
    assert shape[:3] == wanted
    with pytest.raises(ValueError, match=r"takes 4 of 8 devices .* but 2 processes must take all"):
        mesh.choose(MeshShape(1, 4, 1), devices=8, replicas=1, backend="cpu", processes=2)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((0, 0, 0), r"mesh.fsdp is 0; it counts devices$"),
        ((0, -1, 1), r"mesh.data is -1; it counts devices, 0: chosen"),
        ((0, 0, 16), r"mesh asks for 16 devices .*; there are 8"),
        ((4, 4, 1), r"mesh asks for 16 devices .*; there are 8"),
    ],
)
def test_a_mesh_that_there_are_no_devices_for_is_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        mesh.choose(MeshShape(*asked), devices=8, replicas=1, backend="gpu")


@pytest.mark.parametrize(
    ("replicas", "asked", "allowed"), [(2, 3, "1, 2"), (6, 4, "1, 2, 3, 6"), (1, 2, "1")]
)
def test_devices_that_would_compute_the_same_are_refused(replicas, asked, allowed):
    there = {"devices": 8, "replicas": replicas, "backend": "cpu"}
    with pytest.raises(
        ValueError, match=rf"mesh.replicas is {asked}, but {replicas} train .*; allowed: {allowed}, 0: chosen"
    ):
        mesh.choose(MeshShape(asked, 1, 1), **there, alone=True)
    shape = mesh.choose(MeshShape(asked, 1, 1), **there)  # those of other runs may join them
    assert shape[:3] == (asked, 1, 1)
    assert mesh.choose(MeshShape(0, 0, 1), **there, alone=True) == mesh.APART


def test_a_mesh_that_does_not_divide_the_batch_is_refused_with_the_batches_that_fit():
    mesh.refuse_uneven(MeshShape(3, 2, 4), 128)
    with pytest.raises(
        ValueError, match=r"batch_size is 100, but the mesh splits a batch into 8 parts"
    ) as error:
        mesh.refuse_uneven(MeshShape(1, 8, 1), 100)
    assert "multiples of 8, such as 96 or 104, or --config.mesh.data=5" in str(error.value)
    with pytest.raises(ValueError, match=r"times optimizer.accumulate=4: allowed are multiples of 32"):
        mesh.refuse_uneven(MeshShape(1, 8, 1), 16, accumulate=4)


@pytest.mark.slow
def test_what_runs_on_eight_devices():
    """The checks of eight_devices.py, in a process that simulates them."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "",
        str(pathlib.Path(__file__).with_name("eight_devices.py")),
    ]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "passed" in done.stdout
