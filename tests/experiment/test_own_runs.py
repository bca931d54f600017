"""Runs of parts of the user's own: ids follow the file and the arrays, records state them, errors come before work."""

import json
import pathlib
import subprocess
import sys

import pytest
from ml_collections import ConfigDict
from small_runs import KilledError, Killer, context_of

from prune_jax import __main__, report
from prune_jax.experiment import launch, specs
from prune_jax.experiment.chain import run
from prune_jax.experiment.config import sweep
from prune_jax.experiment.config.dataset import open_dataset
from prune_jax.experiment.config.defaults import default_config

PARTS = (pathlib.Path(__file__).parents[2] / "configs" / "your_parts.py").read_text()


PAIR = """
import jax
def mlp(num_classes):
    def init(key, x):
        a, b = jax.random.split(key)
        return [jax.random.normal(a, (x.size, 8)) / 8, (jax.random.normal(b, (8, num_classes)),)]
    def apply(params, x, train, key):
        hidden = jax.nn.relu(x.reshape(len(x), -1) @ params[0])
        if train:  # dropout by hand
            hidden = 2 * hidden * jax.random.bernoulli(key, 0.5, hidden.shape)
        return hidden @ params[1][0]
    return init, apply
"""


def config_of(name, **given):
    config = default_config()
    config.experiment, config.seeds = "own", (0,)
    config.model.name, config.model.options = f"{name}:SmallCNN", ConfigDict({"width": 4})
    config.dataset.name, config.sparsify.criterion = f"{name}:load", f"{name}:bn_scale"
    config.optimizer.name = f"{name}:my_sgd"
    for stage in ("pretrain", "retrain", "scratch"):
        config[stage].epochs = 1
    return sweep.override(config, given)


def ids_of(config):
    (arm,) = sweep.plan_arms(config, None, open_dataset(config))
    return arm, specs.chain_ids(arm.chain, 0)


@pytest.mark.slow
def test_a_run_of_own_parts_ends_with_a_record_that_states_them(write, tmp_path):
    config = config_of(write(PARTS))
    launch.launch(config, None, tmp_path / "run", "a test", report.write)
    (path,) = (tmp_path / "run" / "records").glob("*.json")
    record = json.loads(path.read_text())
    stages = [stage["spec"] for stage in record["stages"]]
    source = stages[0]["model"]["source"]
    assert stages[1]["source"] == stages[0]["train"]["source"] == source
    assert len(stages[2]["data"]["content"]) == 64
    assert record["network"] == f"{config.model.name}@{source[:8]}"
    told = record["config"]["own_parts"]
    assert set(told) == {"model.name", "dataset.name", "sparsify.criterion", "optimizer.name"}
    assert all(part["sha256"] == source and part["file"].endswith(".py") for part in told.values())
    assert record["costs"]["pruned_macs"] < record["costs"]["dense_macs"]
    launch.launch(config, None, tmp_path / "run", "a test", report.write)  # found finished
    assert len(list((tmp_path / "run" / "stages").iterdir())) == 3


def test_scratch_of_an_own_network_runs(write, tmp_path):
    config = config_of(write(PARTS), pipeline="scratch")
    launch.launch(config, None, tmp_path / "run", "a test", report.write)
    assert len(list((tmp_path / "run" / "records").glob("*.json"))) == 1


@pytest.mark.slow
def test_a_pair_of_any_pytree_trains_its_seeds_together_and_is_measured(write, tmp_path):
    name = write(PARTS + PAIR)
    given = {"seeds": (0, 1), "optimizer.accumulate": 2, "measure.jsv": True, "measure.examples": 5}
    config = config_of(name, **given, **{"model.name": f"{name}:mlp"})
    config.model.options = ConfigDict()
    config.sparsify.criterion = "l1"
    launch.launch(config, None, tmp_path / "run", "a test", report.write)
    (path,) = (tmp_path / "run" / "records").glob("*.json")
    results = json.loads(path.read_text())["results"]
    assert results[0]["base_accuracy"] != results[1]["base_accuracy"]
    assert all(result["base_mean_jsv"] > 0 for result in results)


@pytest.mark.slow
def test_a_killed_run_with_dropout_ends_as_one_that_was_not(write, tmp_path):
    config = config_of(write(PARTS), **{"pretrain.epochs": 3, "retrain.epochs": 2})
    dataset = open_dataset(config)
    (arm,) = sweep.plan_arms(config, None, dataset)
    for name in ("whole", "killed"):
        if name == "killed":
            with pytest.raises(KilledError):
                run.run_chain(context_of(tmp_path / name, dataset, arm, progress=Killer(2)), arm)
        run.run_chain(context_of(tmp_path / name, dataset, arm), arm)
    whole, killed = (
        [
            json.loads((tmp_path / name / "stages" / its_id / "stage.json").read_text())["digest"]
            for its_id in ids
        ]
        for ids in [specs.chain_ids(arm.chain, 0)]
        for name in ("whole", "killed")
    )
    assert whole == killed


def test_the_same_file_has_the_same_ids_and_a_changed_one_others(write):
    name = write(PARTS)
    _, first = ids_of(config_of(name))
    assert ids_of(config_of(name))[1] == first
    write(PARTS + "\n# a comment\n", name)
    arm, second = ids_of(config_of(name))
    assert not set(first) & set(second)
    config = config_of(name)
    config.dataset.split_seed = 1
    other, _ = ids_of(config)
    assert other.chain[0].data.content != arm.chain[0].data.content


@pytest.mark.parametrize(
    ("given", "text", "told"),
    [
        ({"model.name": "nowhere:net"}, PARTS, r"model.name is 'nowhere:net', but there is no module nowhere"),
        ({}, PARTS.replace("def load(", "def loaded("), "dataset.name is .* has no 'load'; did you mean .*:loaded"),
        ({}, PARTS.replace("digits.images[order]", "digits.im[order]"), "dataset.name is .* raised AttributeError"),
        ({}, PARTS.replace("return scores", "return list(scores)"), "sparsify.criterion is .* returned list; it must"),
        ({}, PARTS.replace("return optax.chain", "return optax.chains"), "optimizer.name is .* AttributeError"),
        ({}, PARTS.replace("self.dropout(x.mean((1, 2)))", "x"), "model.name is .* evaluation mode gives float32 of "),
        ({"dataset.stream": "True"}, PARTS, "dataset.stream is 'True', but .*:load gives arrays in memory"),
        ({"base.checkpoint": "a.safetensors"}, PARTS, "base.checkpoint"),
        ({"sparsify.stage_ratios": (0.5,)}, PARTS, "sparsify.stage_ratios is .* name its groups in sparsify.layers"),
        ({"sparsify.layers": ("conv",)}, PARTS, "sparsify.layers: no group's name fits 'conv'"),
    ],
)  # fmt: skip
def test_bad_parts_are_refused_before_any_work(write, tmp_path, given, text, told):
    name = write(text)
    with pytest.raises(ValueError, match=f"^{told}") as caught:
        launch.launch(config_of(name, **given), None, tmp_path / "run", "a test", report.write)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_commands_take_a_network_of_ones_own(write, capsys):
    name = write(PARTS)
    sizes = ["--num_classes=10", "--image_size=8", "--channels=1"]
    assert __main__.main(["groups", f"--model={name}:SmallCNN", *sizes]) == 0
    assert "convs/1" in capsys.readouterr().out


@pytest.mark.slow
def test_run_py_finds_the_parts_beside_the_config(tmp_path):
    root = pathlib.Path(__file__).parents[2]
    (tmp_path / "here.py").write_text(
        (root / "configs" / "your_own.py").read_text().replace("your_parts", "beside")
    )
    (tmp_path / "beside.py").write_text(PARTS)
    command = [sys.executable, str(root / "run.py"), "--config=here.py", "--config.quick", "--dry_run"]
    done, failed = (
        subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True)
        for more in ([], ["--config.model.name=beside:SmalCNN"])
    )
    assert "beside:SmallCNN, seeds [0, 1]" in done.stdout, done.stderr
    assert failed.returncode == 1
    assert failed.stderr.strip().endswith("has no 'SmalCNN'; did you mean beside:SmallCNN?")
    assert len(failed.stderr.strip().splitlines()) == 1
