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
    "--config.sparsify.criterion=taylor",  # so that gradients of training examples are gathered everywhere too
    "--config.tensorboard=False",
    "--config.report.interactive=False",
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
MARK = 1e6  # seconds of training that no test takes
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


def kept(workdir):
    """What the unfinished stages' complete checkpoints say of themselves: their JSON files."""
    steps = [path for path in workdir.glob("partial/*/*/about/metadata") if path.parts[-3].isdigit()]
    return [path for path in steps if (path.parents[1] / "commit_success.txt").exists()]


def wait_for_checkpoint(process, workdir):
    while process.poll() is None and not kept(workdir):
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()


def mark(workdir):
    """Let the kept state say that it took a million seconds: who goes on from it says so too. The stages' ids."""
    path = max(kept(workdir), key=lambda path: int(path.parts[-3]))
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "seconds": MARK}))
    return about["members"]


def assert_went_on(workdir, stages):
    for stage in stages:
        about = json.loads((workdir / "stages" / stage / "stage.json").read_text())
        assert about["seconds"] >= MARK, f"stage {stage} was begun anew"


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


def meet():
    """How two processes of this machine find one another, but for which one each is."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"--coordinator=localhost:{free.getsockname()[1]}", "--distributed", "--num_processes=2"


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
    wait_for_checkpoint(process, tmp_path / "eight")
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
    unfinished = mark(tmp_path / "eight")
    finish(start(folder, 4, tmp_path / "eight", *half))
    assert_went_on(tmp_path / "eight", unfinished)
    assert_same_record(tmp_path / "eight", alone[table])


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_a_table_over_two_processes_one_of_them_lost_and_both_started_again(folder, alone, tmp_path, table):
    def both(*arguments):
        flags = (*TABLES[table], *EVENLY, *meet(), *arguments)
        return [start(folder, 1, tmp_path / "two", *flags, f"--process_id={i}") for i in (0, 1)]

    first, second = both("--config.distributed.heartbeat_timeout=10")
    wait_for_checkpoint(first, tmp_path / "two")
    second.kill()
    second.communicate()
    _, err = first.communicate(timeout=300)
    assert first.returncode == -signal.SIGABRT, err  # JAX ends who is left
    assert "JAX distributed service detected fatal errors" in err
    assert not list(tmp_path.glob("two/records/*.json"))
    unfinished = mark(tmp_path / "two")
    for process in both():
        finish(process)
    assert_went_on(tmp_path / "two", unfinished)
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


@pytest.mark.slow
def test_what_one_process_lacks_is_told_by_both_before_any_work(folder, tmp_path):
    flags = ("--config=tests/tiny_sweep.py", *meet())
    lacking = "--config.report.sections=foo"
    first = start(folder, 1, tmp_path / "two", *flags, "--process_id=0")
    second = start(folder, 1, tmp_path / "two", *flags, "--process_id=1", lacking)
    for process, said in (
        (first, "error: process 1 failed: report.sections: "),
        (second, "error: report.sections: "),
    ):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 1, out + err
        assert err.splitlines()[-1].startswith(said)
    assert not (tmp_path / "two").exists()


@pytest.mark.slow
def test_batch_norm_and_momentum_over_two_processes_are_the_single_devices(tmp_path):
    """The same trainer, in two processes with half of every batch each, and here with the whole of it."""
    script = ROOT / "tests" / "experiment" / "two_processes.py"
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    address, together, alone = meet()[0].partition("=")[2], tmp_path / "together.npz", tmp_path / "alone.npz"
    each = [(together, address, 0), (together, address, 1), (alone,)]
    started = [
        subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for arguments in each
    ]
    for process in started:
        finish(process)
    mine, theirs = (np.load(file) for file in (together, alone))
    assert mine.files == theirs.files
    for name in theirs.files:
        # six steps of float32 whose sums are taken in another order
        np.testing.assert_allclose(mine[name], theirs[name], rtol=2e-3, atol=2e-5)
