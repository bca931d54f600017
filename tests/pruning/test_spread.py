"""Cutting what is spread over devices: shardings by hand here, arrays in a process with 8 simulated devices."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from prune_jax.pruning.spread import fitting, is_spread

HERE = pathlib.Path(__file__).parent
MESH = AbstractMesh((4, 2), ("fsdp", "model"))


@pytest.mark.parametrize(
    ("spec", "shape", "wanted"),
    [
        (("fsdp", None), (8, 6), ("fsdp", None)),  # still divides
        (("fsdp", None), (6, 8), (None, "fsdp")),  # the other axis does
        (("fsdp",), (6, 8, 16), (None, None, "fsdp")),  # the larger of two others
        (("fsdp", None), (6, 6), (None, None)),  # none does
        ((None, ("fsdp", "model")), (16, 12), (("fsdp", "model"), None)),
        (("fsdp", "model"), (6, 8), (None, "model")),  # the other is taken
    ],
)
def test_shardings_follow_the_sizes(spec, shape, wanted):
    found = fitting(NamedSharding(MESH, PartitionSpec(*spec)), shape)
    assert found.spec == PartitionSpec(*wanted)


def test_what_lies_on_one_device_is_not_spread():
    array = jax.device_put(np.ones(3))
    assert not is_spread(array)
    assert not is_spread(np.ones(3))
    one = SingleDeviceSharding(jax.devices()[0])
    assert fitting(one, (3,)) is one


@pytest.mark.slow
def test_a_spread_decoder_is_read_and_cut_in_parts(tmp_path):
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    paths = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(HERE / "spread_decoder.py"), str(tmp_path / "net")],
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "cut where it lies" in done.stdout
