"""Runs of the tables' quick forms over simulated devices, and streamed over real processes; ended and gone on."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
SMALL = (
    "--config.quick",
    "--config.ratios=(0.5,)",
    "--config.seeds=(0,)",
    "--config.optimizer.batch_size=96",
    "--config.measure.jsv=True",
    "--config.measure.examples=16",
    "--config.tensorboard=False",
)
TABLE4 = ("--config=configs/table4.py", *SMALL, "--config.shorten=30", "--sweep=6/12")
TABLE6 = (
    "--config=configs/table6.py",
    *SMALL,
    "--config.dataset.stream=True",
    "--config.shorten=60",
    "--sweep=6/6",
)
EVENLY = ("--config.mesh.replicas=1", "--config.checkpoint_seconds=0.0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the data set lies; made by the first run."""
    return tmp_path_factory.mktemp("tfds")


def start(folder, devices, workdir, *arguments):
    environment = {**os.environ, "TFDS_DATA_DIR": str(folder), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "run.py", *arguments, f"--workdir={workdir}"],
        cwd=ROOT,
        env={**environment, "JAX_NUM_CPU_DEVICES": str(devices)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, (out + err)[-4000:]


def wait_for(process, workdir, pattern):
    while process.poll() is None and not list(workdir.glob(pattern)):
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()


def assert_same_record(workdir, alone):
    """The single device's numbers: losses and Jacobians to float tolerance, the choice of filters exactly."""
    ours, wanted = (json.loads(next(w.glob("records/*.json")).read_text()) for w in (workdir, alone))
    assert ours["stages"] == wanted["stages"]
    for mine, theirs in zip(ours["results"], wanted["results"], strict=True):
        for key in ("train_loss", "mean_jsv"):
            found, other = ([e.get(key) or 0.0 for e in r["epochs"]] for r in (mine, theirs))
            assert any(found)
            # float32 sums in another order, over the epochs of three stages
            np.testing.assert_allclose(found, other, rtol=5e-3)
        accuracies = [[e["test_accuracy"] for e in r["epochs"]] for r in (mine, theirs)]
        np.testing.assert_allclose(*accuracies, atol=0.41)  # two of 500 test images


@pytest.mark.slow
def test_table_4_over_eight_devices_ended_by_sigterm_and_gone_on(folder, tmp_path):
    finish(start(folder, 1, tmp_path / "alone", *TABLE4))
    spread = (*TABLE4, *EVENLY, "--config.mesh.data=4", "--config.mesh.fsdp=2")
    process = start(folder, 8, tmp_path / "eight", *spread)
    wait_for(process, tmp_path / "eight", "partial/*/[0-9]*")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 75, err
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert "run the same command again to go on" in told[0]
    # The mesh is no part of a stage's id: the state goes on over other devices than it was kept on.
    finish(
        start(folder, 4, tmp_path / "eight", *TABLE4, *EVENLY, "--config.mesh.data=2", "--config.mesh.fsdp=2")
    )
    assert_same_record(tmp_path / "eight", tmp_path / "alone")


@pytest.mark.slow
def test_table_6_over_two_processes_one_of_them_lost_and_both_started_again(folder, tmp_path):
    finish(start(folder, 1, tmp_path / "alone", *TABLE6))

    def both(*arguments):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        meet = (f"--coordinator=localhost:{port}", "--distributed", "--num_processes=2", *arguments)
        return [
            start(folder, 1, tmp_path / "two", *TABLE6, *EVENLY, *meet, f"--process_id={i}") for i in (0, 1)
        ]

    first, second = both("--config.distributed.heartbeat_timeout=10")
    wait_for(first, tmp_path / "two", "partial/*/[0-9]*")
    second.kill()
    second.communicate()
    first.communicate(timeout=300)  # notices the loss
    assert first.returncode != 0
    assert not list(tmp_path.glob("two/records/*.json"))
    for process in both():
        finish(process)
    assert_same_record(tmp_path / "two", tmp_path / "alone")
    assert not list(tmp_path.glob("two/partial/*"))
