"""Runs that differ in the LR alone, trained as one program: the same numbers, one cohort, each with its own end."""

import contextlib
import json

import jax
import numpy as np
import pytest
from small_runs import KilledError, Killer, context_of, mlp_config

from prune_jax.experiment import specs
from prune_jax.experiment.chain import restore, run, shared_training
from prune_jax.experiment.config import sweep as config_sweep
from prune_jax.experiment.training import divergence

RATES = (1e-2, 3e-3, 1e-3)


def arms_of(digits, together="sweep", rates=RATES, **changes):
    config = mlp_config()
    config.seeds = (0, 1)
    config.pretrain.epochs, config.retrain.epochs = 1, 3
    config = config_sweep.override(
        config, {"execution.together": together, "optimizer.weight_decay": 1e-3, **changes}
    )

    def sweep(config):
        return [
            {"sparsify.ratio": ratio, "retrain.schedule": f"0:{lr!r},2:{lr / 10!r}"}
            for ratio in (0.3, 0.5)
            for lr in rates
        ]

    return config_sweep.plan_arms(config, sweep, digits)


def abouts(root):
    return {f.parent.name: json.loads(f.read_text()) for f in root.glob("stages/*/stage.json")}


def test_a_column_is_what_differs_in_the_lr_alone(digits):
    arms = arms_of(digits)
    assert shared_training.column(arms, arms[1], 2) == arms[:3]
    assert shared_training.column(arms, arms[5], 2) == arms[3:]
    assert shared_training.column(arms, arms[5], 0) == arms  # one base model
    members = shared_training.members(arms[:3], 2)
    assert [(m.seed, m.schedule) for m in members] == [
        (seed, f"0:{lr!r},2:{lr / 10!r}") for lr in RATES for seed in (0, 1)
    ]
    assert len({m.parent for m in members}) == 2  # each seed's pruned network
    assert [m.seed for m in shared_training.members(arms, 0)] == [0, 1]
    longer = arms_of(digits, **{"retrain.epochs": 4})
    assert shared_training.column((*arms, *longer), arms[0], 2) == arms[:3]
    alone = arms_of(digits, together="run")
    assert shared_training.column(alone, alone[1], 2) == (alone[1],)
    assert shared_training.column((), arms[1], 2) == (arms[1],)
    extended = arms_of(digits, **{"retrain.extend": "plateau"})
    assert shared_training.column(extended, extended[1], 2) == (extended[1],)


def test_replicas_that_loop_are_no_column(digits):
    with pytest.raises(ValueError, match=r"execution.together is 'sweep'.*execution.replicas 'loop'"):
        arms_of(digits, **{"execution.replicas": "loop"})
    with pytest.raises(ValueError, match=r"execution.together is 'swep'; allowed: run, sweep"):
        arms_of(digits, together="swep")


@pytest.mark.slow
def test_a_column_gives_what_its_runs_give_one_by_one(tmp_path, digits):
    arms, alone = arms_of(digits), arms_of(digits, together="run")
    together, apart = context_of(tmp_path / "t", digits, *arms), context_of(tmp_path / "a", digits, *alone)
    run.run_chain(together, arms[1])
    made = abouts(tmp_path / "t")
    assert (
        sum(about["kind"] == "retrain" for about in made.values()) == 6
    )  # the whole column, by one of its runs
    for arm in arms:
        run.run_chain(together, arm)
    for arm in alone:
        run.run_chain(apart, arm)
    made, wanted = abouts(tmp_path / "t"), abouts(tmp_path / "a")
    assert made.keys() == wanted.keys()
    for its_id, about in made.items():
        assert about["spec"] == wanted[its_id]["spec"]
        if about["kind"] == "retrain":
            assert (about["together"], wanted[its_id]["together"]) == (6, 2)
            assert [e.get("lr") for e in about["history"]] == [e.get("lr") for e in wanted[its_id]["history"]]
        mine, theirs = (restore.load(c.store, its_id).variables for c in (together, apart))
        for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)  # sums of 2 and of 6 replicas under vmap


@pytest.mark.slow
def test_a_column_that_is_killed_ends_as_if_never_whichever_run_goes_on(tmp_path, digits):
    arms = arms_of(digits)
    run.run_chain(context_of(tmp_path / "whole", digits, *arms), arms[0])
    with contextlib.suppress(KilledError):
        run.run_chain(context_of(tmp_path / "killed", digits, *arms, progress=Killer(2)), arms[0])
        pytest.fail("the run was to be killed")
    run.run_chain(context_of(tmp_path / "killed", digits, *arms), arms[2])
    digests = [
        {name: about["digest"] for name, about in abouts(tmp_path / root).items()}
        for root in ("whole", "killed")
    ]
    assert digests[0] == digests[1]
    assert not list((tmp_path / "killed").glob("partial/*"))


@pytest.mark.slow
def test_an_lr_that_diverges_takes_no_other_with_it(tmp_path, digits):
    arms = arms_of(digits, rates=(1e-2, 1e30, 1e-3), **{"measure.jsv": "mean", "measure.examples": 5})
    context = context_of(tmp_path / "w", digits, *arms)
    run.run_chain(context, arms[0])
    retrained = {n for n, about in abouts(tmp_path / "w").items() if about["kind"] == "retrain"}
    ids = [{specs.chain_ids(arm.chain, seed)[-1] for seed in arm.seeds} for arm in arms[:3]]
    assert retrained == ids[0] | ids[2]
    assert {f.stem for f in (tmp_path / "w" / "diverged").iterdir()} == ids[1]
    with pytest.raises(divergence.TrainingDivergedError, match=r"under LR 0:1e\+30.* known from before"):
        run.run_chain(context, arms[1])
    for arm in (arms[0], arms[2]):
        assert run.is_chain_finished(context, arm)
    clean = context_of(tmp_path / "c", digits, *arms[:1])
    run.run_chain(clean, arms[0])
    (mine, theirs) = (restore.load(c.store, min(ids[0])).variables for c in (context, clean))
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)  # sums of 2 and of 6 replicas under vmap
