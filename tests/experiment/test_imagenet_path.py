"""From ImageNet's ArrayRecord files to a report through run.py, on the fake ImageNet; killed and resumed on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_imagenet import FakeImagenet, write_fake_imagenet

ROOT = Path(__file__).parents[2]
CONFIG = Path(__file__).with_name("imagenet_path_config.py")
# What is read and trained in mid-epoch again and again: a smaller network, more and smaller batches.
SMALL = (
    "--config.model.name=resnet8",
    "--config.optimizer.batch_size=20",
    "--config.dataset.size=16",
    "--config.dataset.resize=20",
)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """The fake ImageNet and a file of the 100 classes that it has images of."""
    folder = tmp_path_factory.mktemp("imagenet")
    write_fake_imagenet(str(folder))
    (folder / "classes.txt").write_text("\n".join(map(str, FakeImagenet.classes)))
    return folder


def start(imagenet, workdir, *arguments):
    command = [
        sys.executable,
        "run.py",
        f"--config={CONFIG}",
        f"--workdir={workdir}",
        f"--config.dataset.data_dir={imagenet}",
        f"--config.dataset.classes_file={imagenet / 'classes.txt'}",
        *arguments,
    ]
    # The tests compile without most of XLA's effort, which costs more here than it saves: convolutions.
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a group of its own, to be signalled whole
    )


def finish(imagenet, workdir, *arguments):
    process = start(imagenet, workdir, *arguments)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == f"report: {workdir / 'report.md'}"
    return stages(workdir)


def stages(workdir):
    found = [json.loads(file.read_text()) for file in workdir.glob("stages/*/stage.json")]
    return {about["kind"]: about for about in found}


@pytest.mark.slow
def test_resnet34_goes_from_array_record_to_a_report(imagenet, tmp_path):
    done = finish(imagenet, tmp_path, "--config.pipeline=scratch")  # the pruned network, compiled once
    images = done["scratch"]["spec"]["data"]
    assert images["streamed"] is True
    assert images["classes"] == list(FakeImagenet.classes)
    assert images["recipe"]["size"] == 32
    (record,) = tmp_path.glob("records/*.json")
    record = json.loads(record.read_text())
    assert record["augmentation"] == ["resized-crop32", "flip"]
    assert record["costs"]["pruned_macs"] < record["costs"]["dense_macs"]
    assert "resnet34" in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_killed_in_mid_epoch_it_ends_with_the_same_weights(imagenet, tmp_path):
    whole = finish(imagenet, tmp_path / "whole", *SMALL)
    process = start(imagenet, tmp_path / "killed", *SMALL, "--config.checkpoint_seconds=0")
    wait_for_a_checkpoint(tmp_path / "killed", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    end_the_group(imagenet, tmp_path / "killed")
    again = finish(imagenet, tmp_path / "killed", *SMALL, "--config.dataset.workers=1")  # other readers
    for kind in ("pretrain", "sparsify", "retrain"):
        assert again[kind]["digest"] == whole[kind]["digest"]
    assert again["retrain"]["history"] == whole["retrain"]["history"]


def end_the_group(imagenet, workdir):
    """Go on with a process that reads ahead, and end both as a scheduler does: what is kept is another checkpoint."""
    readers = ("--config.dataset.workers=1", "--config.checkpoint_seconds=0")
    before = checkpoints(workdir)
    process = start(imagenet, workdir, *SMALL, *readers)
    wait_for_a_checkpoint(workdir, process, before)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 75, err
    *_, line = err.splitlines()  # and nothing after it
    assert line.startswith("error: asked to end"), err
    assert "Traceback" not in err
    assert checkpoints(workdir) - before


def checkpoints(workdir):
    return {path for path in workdir.glob("partial/*/*") if path.name.isdigit()}


def wait_for_a_checkpoint(workdir, process, before=frozenset()):
    """Until a training stage is under way: stages last one epoch, so what is kept before its end is in mid-epoch."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        if checkpoints(workdir) - before:
            return
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"no checkpoint in mid-epoch: {process.communicate()[1]}")
