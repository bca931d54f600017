"""The launcher as a user meets it: processes, fed with bad input; killed and started again in test_many_launches."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = "--config=configs/mystery1_mlp7.py"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return {**os.environ, "TFDS_DATA_DIR": str(tmp_path_factory.mktemp("tfds")), "JAX_PLATFORMS": "cpu"}


# A Python that can't write a file of more than 20,000 bytes; set by itself, as a fork of this process could hang.
SMALL_FILES = """import os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


# The sweep's runs of one LR with and without OrthP; figures, and no page: Bokeh's import takes seconds of each process.
FEW = (
    '--config.recoveries=("none","orthp")',
    "--config.retrain_lrs=(1e-2,)",
    "--config.report.interactive=False",
)


def finish(environment, *arguments, python=(sys.executable,), few=FEW):
    command = [*python, "run.py", CONFIG, "--config.quick", *few, *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=300)
    return ended.returncode, ended.stdout, ended.stderr


def results(workdir):
    """All that a launch leaves for a reader; the command line differs by its --workdir."""
    files = [*workdir.glob("records/*.json"), workdir / "report.md", *workdir.glob("figures/*.png")]
    return {f.name: f.read_bytes().replace(str(workdir).encode(), b"W") for f in files}


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_loses_nothing(environment, tmp_path):
    small_files = [sys.executable, "-c", SMALL_FILES]
    empty = {**environment, "TFDS_DATA_DIR": str(tmp_path / "tfds")}
    code, _, err = finish(empty, f"--workdir={tmp_path / 'w'}", python=small_files)
    assert code == 1
    assert err.startswith("error: data set 'digits' can't be written under")
    assert finish(environment, "--dry_run")[0] == 0  # prepares the data set
    code, out, err = finish(environment, f"--workdir={tmp_path / 'w'}", python=small_files)
    assert code == 1, out
    assert "Traceback" not in err
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert told[0].startswith("error: checkpoint ")
    assert "free disk space" in told[0]
    code, _, err = finish(environment, f"--workdir={tmp_path / 'w'}")
    assert code == 0, err


@pytest.mark.slow
def test_a_corrupt_checkpoint_is_named_and_only_its_stage_is_redone(environment, tmp_path):
    workdir = tmp_path / "w"
    assert finish(environment, f"--workdir={workdir}")[0] == 0
    whole = results(workdir)
    stages = {f.parent: json.loads(f.read_text()) for f in workdir.glob("stages/*/stage.json")}
    (sparsified, *_) = (folder for folder, about in stages.items() if about["kind"] == "sparsify")
    children = [folder for folder, about in stages.items() if about["parent"] == sparsified.name]
    for folder in children:
        (folder / "stage.json").unlink()
    for data in sparsified.glob("checkpoint/**/d/*"):
        data.write_bytes(data.read_bytes()[:7])
    code, _, err = finish(environment, f"--workdir={workdir}")
    assert code == 1
    assert f"remove {sparsified} and run again" in err
    for file in sorted(sparsified.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    sparsified.rmdir()
    assert finish(environment, f"--workdir={workdir}")[0] == 0
    again = results(workdir)
    assert again.keys() == whole.keys()
    redone = {name for name in whole if name.endswith(".json") and again[name] != whole[name]}
    assert len(redone) <= len(children)
    for name in redone:  # one replica alone sums in another order than two under vmap
        before, after = (json.loads(content) for content in (whole[name], again[name]))
        assert before["stages"] == after["stages"]
        for a, b in zip(before["results"], after["results"], strict=True):
            assert abs(a["last_accuracy"] - b["last_accuracy"]) < 1.0


REFUSED = {
    "--config.retrian.epochs=3": "no such key: retrian; did you mean 'retrain'",
    "--workdr=x": "Unknown command line flag 'workdr'. Did you mean: workdir",
    "--config.report.sections=foo": "unknown section 'foo'. Allowed: base",
    "--config.sparsify.ratio=0.3": "the sweep of mystery1_mlp7.py sets it in every run",
    "--config.ratios=1.5": "sparsify.ratio is 1.5; allowed: [0, 1)",
    "--config.pretrain.schedule=3:0.1": "pretrain.schedule (with pretrain.epochs=4)",
    "--process_id=0": "--process_id says how processes meet, which they do with --distributed: add it",
    "--sweep=0/16": "--sweep=0/16: shards are counted from 1, so it is --sweep=1/16 to --sweep=16/16",
    "--launcher=slurm": "there is no sbatch and srun on this machine: submit from a login node",
}
# Each command line in a process of its own, forked from one that has imported all: a start of Python takes seconds.
EACH_ALONE = """
import os, pathlib, sys
from benchmarks import forked

root, config, *arguments = sys.argv[1:]
forked.prepare(pathlib.Path(root) / "cache")
for i, argument in enumerate(arguments):
    child = forked.start([config, "--config.quick", argument], pathlib.Path(root) / str(i))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
def test_bad_input_is_one_line_before_any_work(environment, tmp_path):
    command = [sys.executable, "-c", EACH_ALONE, str(tmp_path), CONFIG, *REFUSED]
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1"] * len(REFUSED)
    for i, (argument, message) in enumerate(REFUSED.items()):
        (line,) = (tmp_path / f"{i}.log").read_text().strip().splitlines()  # of both streams
        assert message in line, argument
        assert not (tmp_path / str(i)).exists(), argument


@pytest.mark.slow
def test_a_dry_run_starts_nothing(environment, tmp_path):
    code, out, err = finish(environment, f"--workdir={tmp_path / 'w'}", "--dry_run", few=())
    assert code == 0, err
    assert "run 16/16 reinit 0.9, LR 0.001, 4 epochs: mlp7_linear, seeds [0, 1]" in out
    assert out.strip().splitlines()[-1].startswith("16 runs, 42 distinct stages")
    assert not (tmp_path / "w").exists()
