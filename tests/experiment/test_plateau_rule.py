import json

import jax
import numpy as np
import pytest
from small_runs import KilledError, Killer, context_of, mlp_config

from prune_jax import fairness
from prune_jax.experiment import specs
from prune_jax.experiment.chain import record, restore, run
from prune_jax.experiment.config import resolve, sweep
from prune_jax.report import reading


def config_of(**changes):
    config = mlp_config()
    config.seeds = (0, 1, 2)
    config.pretrain.epochs = 1
    config.retrain.schedule = "0:1e-2,20:1e-3"
    rule = {"window": 2, "loss": 0.1, "jsv": 0.1, "minimum": 4, "maximum": 9, "examples": 20}
    rule = {f"retrain.plateau.{key}": value for key, value in rule.items()}
    return sweep.override(config, {"retrain.extend": "plateau", **rule, **changes})


def finished(root):
    about = {p.parent.name: json.loads(p.read_text()) for p in root.glob("stages/*/stage.json")}
    return {name: (told["digest"], told.get("history")) for name, told in about.items()}


@pytest.mark.slow
@pytest.mark.parametrize("execution", [("scan", "vmap"), ("step", "loop")])
def test_each_seed_has_its_own_schedule_and_a_killed_run_ends_the_same(tmp_path, digits, execution):
    chosen = dict(zip(("execution.epoch", "execution.replicas"), execution, strict=True))
    arm = sweep.plan_arms(config_of(**chosen), None, digits)[0]
    context = context_of(tmp_path / "whole", digits, arm)
    run.run_chain(context, arm)
    with pytest.raises(KilledError):
        run.run_chain(context_of(tmp_path / "killed", digits, arm, progress=Killer(8)), arm)
    run.run_chain(context_of(tmp_path / "killed", digits, arm), arm)
    assert finished(tmp_path / "killed") == finished(tmp_path / "whole")
    made = record.make_record(context.store, arm, "a test")
    assert fairness.from_json(fairness.to_json(made)) == made
    stage = made.stages[-1]
    assert stage.schedule.startswith(
        "plateau(window=2, loss=0.1, jsv=0.1, minimum=4, examples=20) of at most 0:0.01,9:"
    )
    schedules = reading.schedules(made)
    assert len({str(schedule) for schedule in schedules}) > 1
    for result, schedule in zip(made.results, schedules, strict=True):
        assert [e.lr for e in result.epochs[1:]] == [schedule.at(e) for e in range(schedule.epochs)]
        assert all(4 <= end - start <= 9 for start, end, _ in schedule.stages)
        _, again = _stages_of(result, arm.chain[-1].train.extend)
        assert again == [end - start for start, end, _ in schedule.stages]
    _equals_training_along_the_schedule_it_came_to_have(
        tmp_path / "fixed", digits, chosen, context, arm, schedules[1]
    )


def _stages_of(result, rule):
    """The lengths of the LR stages, from the recorded signals alone."""
    lengths, seen = [], []
    for e in result.epochs[1:]:
        seen.append((e.train_loss, e.train_jsv))
        over = len(seen) == 9
        if len(seen) >= rule.minimum and len(seen) % rule.window == 0:
            before, now = np.mean(seen[-4:-2], 0), np.mean(seen[-2:], 0)
            over |= abs(now[0] - before[0]) <= rule.loss and abs(now[1] - before[1]) <= rule.jsv * before[1]
        if over:
            lengths.append(len(seen))
            seen = []
    return seen, lengths


def _equals_training_along_the_schedule_it_came_to_have(root, digits, chosen, context, arm, schedule):
    fixed = {"retrain.extend": "", "retrain.schedule": str(schedule), "retrain.epochs": schedule.epochs}
    plain = sweep.plan_arms(config_of(**chosen, **fixed), None, digits)[0]
    other = context_of(root, digits, plain)
    run.run_chain(other, plain)
    mine = restore.load(context.store, specs.chain_ids(arm.chain, 1)[-1]).variables
    theirs = restore.load(other.store, specs.chain_ids(plain.chain, 1)[-1]).variables
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)  # the same steps in another compiled program


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retrain.extend": "plataeu"}, r"retrain.extend is 'plataeu'; allowed: '' or 'plateau'"),
        ({"retrain.schedule": "0:cosine(1e-2,1e-4)"}, r"retrain.extend is 'plateau', but .* holds a curve"),
        ({"retrain.plateau.window": 0}, r"retrain.plateau.window is 0; allowed: 1 to 9"),
        ({"retrain.plateau.minimum": 10}, r"retrain.plateau.minimum is 10; allowed: 1 to 9"),
        ({"retrain.plateau.examples": 5000}, r"retrain.plateau.examples is 5000; allowed: 1 to 1297"),
        ({"retrain.plateau.loss": -0.1}, r"retrain.plateau.loss is -0.1; a tolerance"),
        ({"retrain.plateau.jsv": float("nan")}, r"retrain.plateau.jsv is nan"),
    ],
)
def test_bad_rules_are_named_before_any_work(digits, changes, message):
    with pytest.raises(ValueError, match=message):
        resolve.resolve(config_of(**changes), digits)


def test_only_the_lrs_of_the_schedule_count(digits):
    chains = [
        resolve.resolve(config_of(**{"retrain.schedule": text}), digits).chain
        for text in ("0:1e-2,20:1e-3", "0:0.01,5:0.001")
    ]
    assert chains[0] == chains[1]
    assert chains[0][-1].train.schedule == "0:0.01,9:0.001"
    assert chains[0][-1].train.epochs == 18
