"""Runs of the tables' quick forms over simulated devices, and streamed over real processes; ended and gone on."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
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
TABLES = {
    "table4": ("--config=configs/table4.py", *SMALL, "--config.shorten=30", "--sweep=6/12"),
    "table6": (
        "--config=configs/table6.py",
        *SMALL,
        "--config.dataset.stream=True",
        "--config.shorten=60",
        "--sweep=6/6",
    ),
}
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


def weights(workdir, stage):
    """The variables of a finished stage, leaf by leaf."""
    folder = workdir / "stages" / stage
    path = folder / json.loads((folder / "stage.json").read_text()).get("checkpoint", "checkpoint")
    with ocp.StandardCheckpointer() as kept:
        shapes = kept.metadata(path.absolute()).item_metadata.tree
        on_host = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
        return jax.tree.leaves(kept.restore(path.absolute(), on_host))


def assert_same_weights(workdir, alone, stage):
    pairs = list(zip(weights(workdir, stage), weights(alone, stage), strict=True))
    assert pairs
    for mine, theirs in pairs:
        # float32 sums in another order, over the epochs of up to three stages
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def assert_same_record(workdir, alone):
    """The single device's numbers: losses, weights and Jacobians to float tolerance, the choice of filters exactly."""
    ours, wanted = (json.loads(next(w.glob("records/*.json")).read_text()) for w in (workdir, alone))
    assert ours["stages"] == wanted["stages"]
    for stage in {stage for entry in ours["stages"] for stage in entry["ids"]}:
        assert_same_weights(workdir, alone, stage)
    for mine, theirs in zip(ours["results"], wanted["results"], strict=True):
        for key in ("train_loss", "mean_jsv"):
            found, other = ([e.get(key) or 0.0 for e in r["epochs"]] for r in (mine, theirs))
            assert any(found)
            # float32 sums in another order, over the epochs of three stages
            np.testing.assert_allclose(found, other, rtol=1e-4)
        accuracies = [[e["test_accuracy"] for e in r["epochs"]] for r in (mine, theirs)]
        np.testing.assert_allclose(*accuracies, atol=0.41)  # two of 500 test images


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory):
    """Each table's run on one device, in a workdir of its own."""
    made = {table: tmp_path_factory.mktemp(table) for table in TABLES}
    for process in [start(folder, 1, made[table], *flags) for table, flags in TABLES.items()]:
        finish(process)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("table", "ended_by"), [("table4", signal.SIGTERM), ("table6", signal.SIGKILL)])
def test_a_table_over_eight_devices_ended_and_gone_on(folder, alone, tmp_path, table, ended_by):
    spread = (*TABLES[table], *EVENLY, "--config.mesh.data=4", "--config.mesh.fsdp=2")
    process = start(folder, 8, tmp_path / "eight", *spread)
    wait_for(process, tmp_path / "eight", "partial/*/[0-9]*")
    process.send_signal(ended_by)
    _, err = process.communicate(timeout=600)
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    if ended_by == signal.SIGTERM:
        assert process.returncode == 75, err
        assert len(told) == 1
        assert "run the same command again to go on" in told[0]
    else:
        assert process.returncode == -signal.SIGKILL
    # The mesh is no part of a stage's id: the state goes on over other devices than it was kept on.
    half = (*TABLES[table], *EVENLY, "--config.mesh.data=2", "--config.mesh.fsdp=2")
    finish(start(folder, 4, tmp_path / "eight", *half))
    assert_same_record(tmp_path / "eight", alone[table])


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_a_table_over_two_processes_one_of_them_lost_and_both_started_again(folder, alone, tmp_path, table):
    def both(*arguments):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        meet = (f"--coordinator=localhost:{port}", "--distributed", "--num_processes=2", *arguments)
        flags = (*TABLES[table], *EVENLY, *meet)
        return [start(folder, 1, tmp_path / "two", *flags, f"--process_id={i}") for i in (0, 1)]

    first, second = both("--config.distributed.heartbeat_timeout=10")
    wait_for(first, tmp_path / "two", "partial/*/[0-9]*")
    second.kill()
    second.communicate()
    first.communicate(timeout=300)  # notices the loss
    assert first.returncode != 0
    assert not list(tmp_path.glob("two/records/*.json"))
    for process in both():
        finish(process)
    assert_same_record(tmp_path / "two", alone[table])
    assert not list(tmp_path.glob("two/partial/*"))


@pytest.mark.slow
def test_a_process_that_is_left_alone_says_so_and_ends(folder, tmp_path):
    address = ("--coordinator=localhost:1", "--distributed", "--num_processes=2", "--process_id=1")
    brief = "--config.distributed.initialization_timeout=1"
    process = start(folder, 1, tmp_path / "one", *TABLES["table4"], *address, brief)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, out + err
    assert err.splitlines()[-1].startswith(
        "error: process 1 did not reach process 0 at localhost:1 within 1 s"
    )
