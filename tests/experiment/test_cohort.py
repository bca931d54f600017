import contextlib
import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from small_runs import KilledError, Killer, context_of, mlp_config

from prune_jax.experiment import specs
from prune_jax.experiment.chain import record, restore, run, train
from prune_jax.experiment.config import sweep
from prune_jax.experiment.progress import Progress
from prune_jax.experiment.storage import leases
from prune_jax.experiment.storage import stages as disk
from prune_jax.experiment.training import cohort, divergence


def small_config(model="mlp7_relu", **changes) -> ConfigDict:
    config = mlp_config()
    if not model.startswith("mlp"):
        config.model.options = ConfigDict()
    config.model.name = model
    config.seeds = (0, 1)
    config.pretrain.epochs = 3
    config.retrain.epochs = 2
    config.sparsify.ratio = 0.3
    return sweep.override(config, {"optimizer.weight_decay": 1e-3, **changes})


def arm_of(config, digits):
    return sweep.plan_arms(config, None, digits)[0]


def digests(root):
    return {p.parent.name: json.loads(p.read_text())["digest"] for p in root.glob("stages/*/stage.json")}


def histories(root):
    return {p.parent.name: json.loads(p.read_text()).get("history") for p in root.glob("stages/*/stage.json")}


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 1e9])
@pytest.mark.parametrize(("replicas", "ends"), [("vmap", (2, 4)), ("loop", (1, 9))])
def test_killed_and_started_again_ends_bit_identical(tmp_path, digits, replicas, ends, seconds):
    """Killed in every stage, with checkpoints after every epoch and with none before a stage's end."""
    arm = arm_of(small_config(**{"execution.replicas": replicas}), digits)
    run.run_chain(context_of(tmp_path / "whole", digits, arm), arm)
    for end in ends:
        root = tmp_path / f"killed{end}"
        with contextlib.suppress(KilledError):
            run.run_chain(context_of(root, digits, arm, progress=Killer(end), seconds=seconds), arm)
            pytest.fail("the run was to be killed")
        run.run_chain(context_of(root, digits, arm, seconds=seconds), arm)
        assert digests(root) == digests(tmp_path / "whole")
        assert histories(root) == histories(tmp_path / "whole")
        assert not list(root.glob("partial/*"))


@pytest.mark.slow
def test_killed_between_the_publication_of_two_replicas(tmp_path, digits, monkeypatch):
    arm = arm_of(small_config(), digits)
    run.run_chain(context_of(tmp_path / "whole", digits, arm), arm)
    saves, real = [], disk.save_stage

    def save_once(store, stage_id, variables, about):
        if saves:
            raise KilledError
        saves.append(stage_id)
        real(store, stage_id, variables, about)

    monkeypatch.setattr(disk, "save_stage", save_once)
    with pytest.raises(KilledError):
        run.run_chain(context_of(tmp_path / "killed", digits, arm, seconds=0.0), arm)
    monkeypatch.setattr(disk, "save_stage", real)
    assert len(digests(tmp_path / "killed")) == 1
    run.run_chain(context_of(tmp_path / "killed", digits, arm, seconds=0.0), arm)
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_finished_stages_are_loaded_not_computed(tmp_path, digits, monkeypatch):
    arm = arm_of(small_config(), digits)
    context = context_of(tmp_path / "w", digits, arm)
    assert not run.is_chain_finished(context, arm)
    run.run_chain(context, arm)
    assert run.is_chain_finished(context, arm)
    monkeypatch.setattr(cohort, "make_trainer", lambda *a: pytest.fail("a finished stage was trained again"))
    run.run_chain(context, arm)
    longer = arm_of(small_config(**{"retrain.epochs": 3}), digits)
    ids = [specs.chain_ids(a.chain, 0) for a in (arm, longer)]
    assert ids[0][:2] == ids[1][:2]
    assert ids[0][2] != ids[1][2]


def test_what_another_process_is_at_is_left_to_it(tmp_path, digits):
    """One seed's base model is computed elsewhere: the other seed's is trained meanwhile, nothing after it."""
    arm = arm_of(small_config(**{"execution.replicas": "loop"}), digits)
    context = context_of(tmp_path / "w", digits, arm)
    theirs, mine = (specs.chain_ids(arm.chain, seed)[0] for seed in arm.seeds)
    with leases.held(leases.open_locks(tmp_path / "w"), [theirs]):
        with pytest.raises(leases.BusyError, match=f"^{theirs} is held by process"):
            run.run_chain(context, arm)
        assert digests(tmp_path / "w").keys() == {mine}
    run.run_chain(context, arm)
    assert run.is_chain_finished(context, arm)
    assert not list(context.store.locks.folder.iterdir())


def test_who_lost_its_lease_publishes_nothing(tmp_path, digits):
    """As after a long suspension: another process has taken the stage over."""
    arm = arm_of(small_config(), digits)

    class Suspended(Progress):
        def epoch(self, number, *value):
            for file in (tmp_path / "w" / "locks").iterdir():
                file.write_text("filelock/2\npid=7\nhost=elsewhere\nmode=lease\ntoken=x\nduration=120.0\n")

    with pytest.raises(leases.BusyError, match="is now held by process 7 on elsewhere"):
        run.run_chain(context_of(tmp_path / "w", digits, arm, progress=Suspended(1)), arm)
    assert not digests(tmp_path / "w")
    assert not list((tmp_path / "w").glob("partial/*"))


@pytest.mark.slow
def test_what_is_measured_later_is_measured_from_checkpoints(tmp_path, digits, monkeypatch):
    changes = {"sparsify.recovery": "orthp", "retrain.epochs": 2}
    jsv = {"measure.jsv": "spectrum", "measure.examples": 5, **changes}
    plain, more = arm_of(small_config(**changes), digits), arm_of(small_config(**jsv), digits)
    context = context_of(tmp_path / "w", digits, plain)
    run.run_chain(context, plain)
    before = digests(tmp_path / "w")
    again = context._replace(measure=more.measure)
    assert not run.is_chain_finished(again, more)
    monkeypatch.setattr(cohort, "make_trainer", lambda *a: pytest.fail("a finished stage was trained again"))
    run.run_chain(again, more)
    assert run.is_chain_finished(again, more)
    assert digests(tmp_path / "w") == before
    later = record.make_record(context.store, more, "a test").results[1]
    assert [e.epoch for e in later.epochs if e.mean_jsv is not None] == [0, 2]
    monkeypatch.undo()
    in_training = context_of(tmp_path / "v", digits, more)
    run.run_chain(in_training, more)
    wanted = record.make_record(in_training.store, more, "a test").results[1]
    assert [e.epoch for e in wanted.epochs if e.spectrum is not None] == [0, 1, 2]
    assert later.pruned_spectrum == wanted.pruned_spectrum
    for mine, theirs in (
        (later.base_spectrum, wanted.base_spectrum),
        (later.epochs[0].spectrum, wanted.epochs[0].spectrum),
        (later.epochs[2].spectrum, wanted.epochs[2].spectrum),
    ):
        assert mine.mean == pytest.approx(theirs.mean, rel=1e-5)  # float32 networks, one and two at once
        assert mine.condition == pytest.approx(theirs.condition, rel=1e-3)
        assert (mine.resolved, mine.unresolved) == (theirs.resolved, theirs.unresolved)
        assert sum(mine.counts) == mine.resolved
    assert wanted.epochs[0].spectrum.isometry_gap < wanted.pruned_spectrum.isometry_gap


def test_a_diverging_run_stops_and_keeps_what_was_good(tmp_path, digits):
    config = small_config(**{"retrain.schedule": "0:1e-3,1:1e30", "retrain.epochs": 4})
    arm = arm_of(config, digits)
    context = context_of(tmp_path / "w", digits, arm, seconds=0.0)
    with pytest.raises(
        divergence.TrainingDivergedError, match=r"in stage retrain .* at epoch [23] of 4 .* is kept in"
    ):
        run.run_chain(context, arm)
    kept = list((tmp_path / "w" / "partial").glob("*/[0-9]*"))
    assert len(kept) == 1
    assert len(digests(tmp_path / "w")) == 4  # both seeds' pretraining and sparsifying action


def test_a_stage_that_diverged_is_not_trained_again_until_someone_says_so(tmp_path, digits, monkeypatch):
    arm = arm_of(small_config(**{"retrain.schedule": "0:1e30"}), digits)
    context = context_of(tmp_path / "w", digits, arm, seconds=0.0)
    with pytest.raises(divergence.TrainingDivergedError, match="under LR 0:1e"):
        run.run_chain(context, arm)
    real = cohort.make_trainer
    monkeypatch.setattr(cohort, "make_trainer", lambda *a: pytest.fail("it was trained again"))
    marks = sorted((tmp_path / "w" / "diverged").iterdir())
    with pytest.raises(
        divergence.TrainingDivergedError, match=f"known from before: .*remove {marks[0].parent}"
    ):
        run.run_chain(context, arm)
    monkeypatch.setattr(cohort, "make_trainer", real)
    assert {mark.stem for mark in marks} == {specs.chain_ids(arm.chain, seed)[-1] for seed in arm.seeds}
    for mark in marks:
        mark.unlink()
    with pytest.raises(
        divergence.TrainingDivergedError,
        match=r"at epoch 1 of 2 .*: lower the LR; [^;]*(; the stages before it are kept)?$",
    ):
        run.run_chain(context, arm)


def test_scratch_is_a_small_dense_network_with_its_own_init(tmp_path, digits):
    config = small_config(**{"pipeline": "scratch", "scratch.epochs": 1})
    arm = arm_of(config, digits)
    context = context_of(tmp_path / "w", digits, arm)
    fresh = train.fresh(arm.model, {"layers/0": 7, "layers/1": 7}, 0)
    dense = train.fresh(arm.model, None, 0)
    assert fresh["params"]["layers"][1]["kernel"].shape == (7, 7)
    assert not np.allclose(
        fresh["params"]["layers"][1]["kernel"], dense["params"]["layers"][1]["kernel"][:7, :7]
    )
    run.run_chain(context, arm)
    (stage_id,) = specs.chain_ids(arm.chain, 0)
    back = disk.load_variables(context.store, stage_id, jax.eval_shape(lambda: fresh))
    assert back["params"]["layers"][0]["kernel"].shape == (64, 7)


def test_the_sparsifying_action_keeps_the_largest_filters_by_brute_force(tmp_path, digits):
    arm = arm_of(small_config(), digits)
    context = context_of(tmp_path / "w", digits, arm)
    run.run_chain(context, arm)
    pretrained, sparsified, _ = specs.chain_ids(arm.chain, 1)
    dense = disk.load_variables(context.store, pretrained, train.fresh(arm.model, None, 0))
    kernel = np.asarray(dense["params"]["layers"][0]["kernel"], np.float64)
    order = sorted(range(10), key=lambda j: sum(abs(w) for w in kernel[:, j]))
    keep = restore.keep_of(disk.read_stage(context.store, sparsified))
    assert keep["layers/0"].tolist() == sorted(order[3:])  # ceil(0.3 * 10) = 3 go


@pytest.mark.slow
def test_a_budget_estimates_the_mean_with_an_error_and_all_examples_leave_none(tmp_path, digits):
    few = {"measure.jsv": True, "measure.examples": 30, "pretrain.epochs": 1, "retrain.epochs": 1}

    def curves(budget):
        arm = arm_of(small_config(**few, **{"measure.budget": budget}), digits)
        context = context_of(tmp_path / str(budget), digits, arm)
        run.run_chain(context, arm)
        assert run.is_chain_finished(context, arm)
        results = record.make_record(context.store, arm, "a test").results
        return [epoch for result in results for epoch in result.epochs]

    exact, whole, some = curves(0), curves(300), curves(100)
    assert len(exact) == 4
    for wanted, all_of_them, estimated in zip(exact, whole, some, strict=True):
        assert all_of_them.mean_jsv == pytest.approx(
            wanted.mean_jsv, rel=1e-5
        )  # 30 examples, 10 outputs each
        assert not all_of_them.mean_jsv_error  # all were measured
        assert estimated.mean_jsv_error > 0
        assert abs(estimated.mean_jsv - wanted.mean_jsv) < 4 * estimated.mean_jsv_error
        assert estimated.mean_jsv != pytest.approx(wanted.mean_jsv, rel=1e-6)
