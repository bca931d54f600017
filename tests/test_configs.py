"""The contract of every file in configs/: it resolves, its runs have names, its data's absence is explained."""

import argparse
import os
import pathlib
import re

import jax
import pytest

from prune_jax import data, report
from prune_jax.experiment import dry_run, launch
from prune_jax.experiment.config import flags, sweep
from prune_jax.experiment.config.dataset import open_dataset
from prune_jax.experiment.protocols import speedups
from prune_jax.fairness import published
from prune_jax.report import cli

FOLDER = pathlib.Path(__file__).parents[1] / "configs"
FILES = sorted(path for path in FOLDER.glob("*.py") if "def get_config(" in path.read_text())
NO_CLAIM = {"your_own", "lm_pruning_or_scratch", "lm_sparsity"}  # say nothing about the paper
PAPER = {"table1": 2, "table4": 12 * 6, "table5": 14, "table6": 24, "table7": 24, "figure2": 2, "figure3": 4}
EACH = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def load(path, *, quick, **given):
    """The module and its config, as run.py makes them from flags."""
    module = flags.load_module(str(path))
    config = module.get_config()
    config.quick = quick
    config = sweep.override(config, given)
    return module, flags.resolved(config, module, given)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("tfds")))
        patch.syspath_prepend(FOLDER)  # as run.py does for parts of the user's own
        yield


@pytest.fixture(scope="module")
def opened():
    """The data set of a config; configs that state the same one share it."""
    found = {}

    def open_once(config):
        stated = config.dataset.to_json_best_effort(sort_keys=True)
        if stated not in found:
            found[stated] = open_dataset(config)
        return found[stated]

    return open_once


def sweep_of(module, config):
    return module.sweep(config) if hasattr(module, "sweep") else [{"label": config.experiment}]


@EACH
def test_the_quick_form_resolves_and_can_be_planned(path, opened):
    module, config = load(path, quick=True)
    dataset = opened(config)
    arms = sweep.plan_arms(config, lambda config: sweep_of(module, config), dataset)
    labels = [arm.label for arm in arms]
    assert len(set(labels)) == len(labels)
    assert len({arm.chain for arm in arms}) == len(arms)
    report.check_sections(config.report.sections)
    shown = list(dry_run.describe((arms[0], arms[-1]), dataset))
    assert shown[-1].endswith("nothing was started")


@EACH
def test_docstrings_hold_the_commands(path):
    module = flags.load_module(str(path))
    config = module.get_config()
    assert module.__doc__.count(f"python run.py --config=configs/{path.name}") >= 2
    assert "--config.quick" in module.__doc__
    assert config.experiment == path.stem
    assert len(config.seeds) >= 3


def test_the_claims_document_names_every_config_and_no_other():
    text = (FILES[0].parents[1] / "docs" / "paper.md").read_text()
    assert set(re.findall(r"configs/(\w+)\.py", text)) == {path.stem for path in FILES} - NO_CLAIM


@pytest.mark.parametrize("name", sorted(PAPER))
def test_a_full_size_file_holds_the_papers_runs(name, monkeypatch):
    printed = {row["pruning_ratio"]: row["speedup"] for row in published.rows("table4")}
    monkeypatch.setattr(speedups, "speedup", lambda spec, layers, ratio: printed[ratio])  # saves the traces
    module, config = load(next(path for path in FILES if path.stem == name), quick=False)
    assert len(module.sweep(config)) == PAPER[name]
    assert config.shorten == 1
    with pytest.raises(data.NotPreparedError, match=r"python -c .*tfds.builder\('(imagenet2012|cifar100?)'"):
        launch.dry_run(config, module.sweep)


@pytest.mark.parametrize("name", [*sorted(PAPER), "cross_validation"])
def test_other_data_and_networks_can_be_named(name, tmp_path):
    given = {"dataset.name": "digits", "model.name": "resnet8"}
    module, config = load(next(path for path in FILES if path.stem == name), quick=False, **given)
    entry = module.sweep(config)[-1]
    (arm,) = sweep.plan_arms(config, lambda _: [entry], open_dataset(config))
    assert arm.model.name == "resnet8"
    assert all(group.endswith("/conv1") for group, _ in arm.ratios)


# Convolutional networks that train for so many steps that compiling them well, three seconds each, is the cheaper way:
# as other tests compile, a step takes two and a half times as long for narrow layers, six times for ResNet-8.
MANY_STEPS = {"fashion_table4"}


# Run where PRUNE_JAX_EVERY_QUICK=1 alone: their rows, stages and report sections are those of another file, named here.
LIKE = {
    "fashion_table4": "mystery2_convnet",
    "fashion_table6": "table6",
    "mystery1_convnet": "mystery1_mlp7",
    "fashion_mystery1": "mystery1_mlp7",
    "lm_sparsity": "lm_pruning_or_scratch",
}


@pytest.fixture
def compiled(path):
    """As in a run from the command line for ``MANY_STEPS``; else as in the other tests."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", before and path.stem not in MANY_STEPS)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.slow
@pytest.mark.apart
@pytest.mark.usefixtures("compiled")
@EACH
def test_the_quick_form_runs_and_reports(path, tmp_path, capsys):
    if path.stem in LIKE and not os.environ.get("PRUNE_JAX_EVERY_QUICK"):
        pytest.skip(f"runs like {LIKE[path.stem]}; PRUNE_JAX_EVERY_QUICK=1 runs it too")
    module, config = load(path, quick=True)
    written = launch.launch(
        config, lambda config: sweep_of(module, config), tmp_path / "run", "a test", report.write
    ).report
    runs = len(sweep_of(module, config))
    text = written.read_text()
    assert len(list((tmp_path / "run" / "records").glob("*.json"))) == runs
    assert all(entry["label"] in text for entry in sweep_of(module, config))
    for number in config.tables:
        parser = argparse.ArgumentParser()
        cli.add_arguments(parser)
        assert cli.run(parser.parse_args([str(tmp_path / "run"), f"--table={number}"])) == 0
        shown = capsys.readouterr().out
        assert "ours on other data: data digits" in shown
        assert (tmp_path / "run" / f"table{number}.html").exists()
    if path.stem in ("table4", "table5"):
        lines = [line for line in shown.splitlines() if "| ours " in line]
        assert lines
