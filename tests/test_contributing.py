"""What CONTRIBUTING says one has to write is enough; parts that a config names are in experiment/test_own_runs.py."""

import dataclasses
import re
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from prune_jax import data, fairness
from prune_jax.experiment import dry_run, specs
from prune_jax.experiment.chain import kinds, record, restore, run
from prune_jax.experiment.config import sweep
from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.progress import Progress
from prune_jax.experiment.storage import folder
from prune_jax.experiment.storage import stages as disk
from prune_jax.experiment.training import cohort, trainer
from prune_jax.pruning import rounds

ROOT = Path(__file__).parents[1]
TABLE = [line for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if line.startswith("| a")]


@dataclasses.dataclass(frozen=True)
class Halve:
    """A kind of stage that no file of the package knows: every weight times ``by``."""

    by: float


def is_there(context, link):
    return all(disk.read_stage(context.store, its_id) for its_id in link.ids)


def finish(context, link):
    for seed, its_id, parent in zip(link.arm.seeds, link.ids, link.parents, strict=True):
        before = restore.load(context.store, parent)
        about = {"kind": link.kind, "spec": specs.stated(link.spec), "seed": seed, "parent": parent}
        after = jax.tree.map(lambda leaf: link.spec.by * leaf, before.variables)
        disk.save_stage(context.store, its_id, after, about)


def recorded(link, macs, lengths):
    return fairness.Stage("sparsify", link.ids, 0, None, macs, specs.stated(link.spec))


def line(link):
    return f"times {link.spec.by:g}"


def test_a_kind_of_stage_is_a_spec_four_functions_and_one_line(tmp_path, monkeypatch):
    mine = kinds.StageKind(finish, is_there, recorded, line, trains=False)
    monkeypatch.setattr(kinds, "KINDS", {**kinds.KINDS, Halve: mine})
    config = default_config()
    config.dataset.name, config.dataset.data_dir, config.seeds = "digits", str(tmp_path / "tfds"), (0,)
    config.pretrain.epochs = config.retrain.epochs = 1
    config.model.options = ConfigDict({"hidden": 10, "depth": 3})
    digits = data.load("digits", data_dir=str(tmp_path / "tfds"))
    (arm,) = sweep.plan_arms(config, None, digits)
    chain = (arm.chain[0], Halve(0.5), *arm.chain[1:])
    arm = arm._replace(chain=chain, ids=(specs.chain_ids(chain, 0),))
    assert any("halve" in text and "times 0.5" in text for text in dry_run.describe([arm], digits))

    store = folder.open_workdir(tmp_path / "run", "test")
    context = cohort.Context(store, trainer.to_device(digits), arm.measure, 0.0, Progress(1), arms=(arm,))
    run.run_chain(context, arm)
    assert run.is_chain_finished(context, arm)
    dense, halved = (
        jax.tree.leaves(restore.load(store, its_id).variables["params"]) for its_id in arm.ids[0][:2]
    )
    assert all((half == 0.5 * full).all() for half, full in zip(halved, dense, strict=True))
    made = record.make_record(store, arm, "a test")
    assert made.stages[1].spec == {"by": 0.5}
    assert made.costs.pruned_macs < made.costs.dense_macs


def test_a_schedule_of_rounds_is_one_line(tmp_path, monkeypatch):
    late = rounds.Schedule(
        lambda ratio, k, n: ratio * (k / n) ** 2, lambda speedup, k, n: speedup ** (k / n) ** 2
    )
    monkeypatch.setattr(rounds, "SCHEDULES", {**rounds.SCHEDULES, "late": late})
    config = default_config()
    config.dataset.name, config.dataset.data_dir, config.seeds = "digits", str(tmp_path / "tfds"), (0,)
    config.sparsify.ratio, config.sparsify.rounds, config.sparsify.rounds_schedule = 0.8, 2, "late"
    (arm,) = sweep.plan_arms(config, None, data.load("digits", data_dir=str(tmp_path / "tfds")))
    cuts = [dict(stage.ratios) for stage in arm.chain if isinstance(stage, specs.Sparsify)]
    assert [set(cut.values()) for cut in cuts] == [{0.2}, {0.8}]


@pytest.mark.parametrize("row", TABLE)
def test_every_file_that_a_row_names_is_there(row):
    named = re.findall(r"`([\w/]+(?:\.py|/))`", row)
    missing = [name for name in named if not any((base / name).exists() for base in _places(row))]
    assert not missing


def _places(row):
    folders = re.findall(r"`([\w/]+/)`", row)
    return [ROOT, ROOT / "prune_jax", *(ROOT / "prune_jax" / folder for folder in folders)]
