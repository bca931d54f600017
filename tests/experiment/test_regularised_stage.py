"""Training towards the cut as a stage: its rule and its budget, killed and resumed, what records and setups say."""

import contextlib
import dataclasses
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from small_runs import KilledError, Killer, context_of, mlp_config

from prune_jax import fairness
from prune_jax.experiment import dry_run, specs
from prune_jax.experiment.chain import record, restore, run
from prune_jax.experiment.config import sweep
from prune_jax.experiment.storage import stages as disk
from prune_jax.experiment.training.penalties import penalty_of, pushing_of
from prune_jax.pruning.regularizers.table import REGULARIZERS

# Twelve steps an epoch. The limit is passed after four rises, at step 6; held for ten steps it is over after 17 steps.
GREG = {
    "regularise.name": "greg1",
    "regularise.epochs": 4,
    "regularise.schedule": "0:1e-2,3:1e-3",
    "regularise.step": 1.0,
    "regularise.every": 2,
    "regularise.limit": 3.0,
    "regularise.hold": 10,
}


UNSET = {f"regularise.{key}": None for key in ("every", "limit", "hold", "step")}
ROOT = Path(__file__).parents[2]


def arm_of(digits, **changes):
    config = mlp_config()
    config.seeds, config.pretrain.epochs, config.retrain.epochs = (0, 1), 1, 1
    return sweep.plan_arms(sweep.override(config, changes), None, digits)[0]


def same(one, other):
    pairs = zip(*map(jax.tree.leaves, (one, other)), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def pushed(tmp_path_factory, digits):
    """A run under GReg-1 that its rule ends, and one without a penalty, in one workdir."""
    arms = [arm_of(digits, **GREG), arm_of(digits)]
    context = context_of(tmp_path_factory.mktemp("pushed"), digits, *arms)
    for arm in arms:
        run.run_chain(context, arm)
    return context, arms


def test_its_rule_ends_a_stage_before_its_budget(pushed):
    context, (arm, _) = pushed
    assert [specs.kind(spec) for spec in arm.chain] == ["pretrain", "regularise", "sparsify", "retrain"]
    for ids in arm.ids:
        history = disk.read_stage(context.store, ids[1])["history"]
        assert [entry["epoch"] for entry in history] == [0, 1, 2]


def test_the_channels_that_were_pushed_are_those_that_go(pushed):
    """Which those are is worked out anew from the base model: the five of ten with the lowest mean magnitude."""
    context, (arm, _) = pushed
    for ids in arm.ids:
        base, after = (
            restore.load(context.store, its_id).variables["params"]["layers"] for its_id in ids[:2]
        )
        keep = restore.load(context.store, ids[2]).keep
        for i in range(2):
            kernel = np.asarray(base[i]["kernel"], np.float64)
            kept = np.sort(np.argsort(np.abs(kernel).mean(0), kind="stable")[5:])
            assert keep[f"layers/{i}"].tolist() == kept.tolist()
            sizes = np.abs(after[i]["kernel"]).mean(0)
            gone = np.setdiff1d(np.arange(10), kept)
            assert sizes[gone].max() < 0.5 * sizes[kept].min()


@pytest.mark.slow
def test_killed_and_resumed_bit_for_bit(tmp_path, pushed, digits):
    context, (arm, _) = pushed
    killed = context_of(tmp_path, digits, arm, progress=Killer(2))  # after an epoch of the regularised stage
    with contextlib.suppress(KilledError):
        run.run_chain(killed, arm)
    assert disk.read_stage(killed.store, arm.ids[0][0])
    assert not disk.read_stage(killed.store, arm.ids[0][1])
    again = context_of(tmp_path, digits, arm)
    run.run_chain(again, arm)
    for ids in arm.ids:
        for its_id in ids[1:]:
            one, other = (disk.read_stage(c.store, its_id) for c in (context, again))
            assert one.get("history") == other.get("history")
            one, other = (restore.load(c.store, its_id).variables for c in (context, again))
            assert same(one, other)


def test_a_record_states_epochs_schedule_and_macs(pushed):
    context, (arm, plain) = pushed
    made, without = (record.make_record(context.store, each, "a test") for each in (arm, plain))
    assert [stage.kind for stage in made.stages] == ["pretrain", "sparsify", "sparsify", "retrain"]
    stage = made.stages[1]
    assert (stage.epochs, stage.schedule, stage.macs) == (2, "0:0.01", made.costs.dense_macs)
    assert stage.extra_macs is None
    assert stage.spec["regularizer"] == "greg1"
    assert dict(map(tuple, stage.spec["arguments"]))["limit"] == 3.0
    assert (made.method, made.axes.criterion, made.axes.schedule) == ("greg1, l1", "greg1, l1", "progressive")
    assert (without.method, without.axes.schedule) == ("l1", "one-shot")
    assert fairness.storage.from_json(fairness.storage.to_json(made)) == made
    verdict = fairness.strictest_setup(made, without)
    assert verdict.strictest == "S3.2"
    assert "prune_epochs" in verdict.explain("S4.1")
    assert not verdict.holds("SX-B")


def test_setups_count_epochs_and_extra_macs_of_pruning(pushed):
    context, (arm, _) = pushed
    made = record.make_record(context.store, arm, "a test")

    def changed(**fields):
        stages = list(made.stages)
        stages[1] = dataclasses.replace(stages[1], **fields)
        return dataclasses.replace(made, name="other", stages=tuple(stages))

    assert fairness.strictest_setup(made, changed()).strictest == "S4.2"
    assert fairness.strictest_setup(made, changed(schedule="0:0.1")).strictest == "S4.1"
    assert fairness.strictest_setup(made, changed(epochs=3)).strictest == "S3.2"
    # dense epochs: 1 + 2 + its retraining. 3 MACs beside a step's are one of a forward pass
    dense = made.costs.dense_macs
    before, after = (
        fairness.chain.dense_epochs(each, fairness.chain.ALL)
        for each in (made, changed(extra_macs=3.0 * dense))
    )
    assert after - before == pytest.approx(2.0)
    assert not fairness.strictest_setup(made, changed(extra_macs=3.0 * dense)).holds("SX-B")


def test_seeds_that_ended_apart_leave_epochs_unstated(pushed):
    _, (arm, _) = pushed
    link = record.links(arm)[1]
    stage = record.kind_of(link.spec).recorded(link, 10, {2, 3})
    assert (stage.epochs, stage.schedule) == (None, None)


def test_tpp_states_the_macs_of_its_gram_matrices(digits):
    arm = arm_of(digits, **GREG | {"regularise.name": "tpp", "regularise.limit": None})
    link = record.links(arm)[1]
    stage = record.kind_of(link.spec).recorded(link, 10, {4})
    # 64 inputs and 10 inputs of the two hidden layers of 10, over batches of 100
    assert stage.extra_macs == 2 * 10 * (64 * 10 + 10 * 10) / 100
    tpp = {"regularise.name": "tpp", "regularise.limit": None, "sparsify.rounds": 2, "sparsify.ratio": 0.6}
    link = record.links(arm_of(digits, **GREG | tpp))[4]
    # seven of ten channels are left of each hidden layer
    assert record.kind_of(link.spec).recorded(link, 10, {4}).extra_macs == 2 * 7 * (64 * 7 + 7 * 7) / 100


def test_a_dry_run_tells_its_budget(digits):
    lines = list(dry_run.describe([arm_of(digits, **GREG)], digits))
    (told,) = [line for line in lines if "greg1" in line and "at most" in line]
    assert "at most 4 epochs, LR 0:0.01,3:0.001" in told
    assert "FLOPs a seed" in told
    lasso = {key: GREG[key] for key in ("regularise.epochs", "regularise.schedule")}
    lines = dry_run.describe([arm_of(digits, **lasso | {"regularise.name": "group_lasso"})], digits)
    assert any("group_lasso, 4 epochs" in line for line in lines)


def test_it_comes_before_each_cut_with_that_cuts_ratios(digits):
    chain = arm_of(digits, **GREG | {"sparsify.rounds": 2}).chain
    assert [specs.kind(spec) for spec in chain] == ["pretrain", *["regularise", "sparsify", "retrain"] * 2]
    assert [chain[i].ratios for i in (1, 4)] == [chain[i].ratios for i in (2, 5)]
    assert {ratio for _, ratio in chain[1].ratios} == {0.25}
    listed = (
        {"stage": "pretrain"},
        {"stage": "regularise", "epochs": 5},
        {"stage": "sparsify", "ratio": 0.3},
    )
    chain = arm_of(digits, **GREG | {"chain": (*listed, {"stage": "retrain"})}).chain
    assert chain[1].train.epochs == 5
    assert {ratio for _, ratio in chain[1].ratios} == {0.3}


def test_ids_of_runs_without_it_are_as_before(digits):
    plain, with_it = arm_of(digits), arm_of(digits, **GREG)
    assert plain.ids[0][0] == with_it.ids[0][0]
    assert plain.ids == arm_of(digits, **{"regularise.epochs": 7}).ids  # unread without a name


def test_networks_that_kept_other_channels_share_a_program(digits):
    arm = arm_of(digits, **GREG | {"regularise.name": "group_norm", "regularise.step": None} | UNSET)
    spec = arm.chain[1]
    keeps = [{"layers/0": np.array(kept)} for kept in ([0, 2, 5], [1, 2, 9])]
    assert pushing_of(arm.model, spec, keeps[0]) == pushing_of(arm.model, spec, keeps[1])
    small = penalty_of(arm.model, pushing_of(arm.model, spec, keeps[0]))
    assert {group.name: group.size for group in small.groups}["layers/0"] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regularise.name": "greg"}, r"regularise.name is 'greg'.*greg1"),
        ({"regularise.epochs": 0}, r"regularise.epochs is 0; a training stage lasts at least 1 epoch"),
        ({"regularise.schedule": "0:x"}, r"regularise.schedule \(with regularise.epochs=4\)"),
        ({"regularise.every": 1000}, r"regularise.every is 1000, and the stage has 48 steps"),
        ({"regularise.every": 0}, r"regularise \(greg1\): every is 0; it must be at least 1"),
        (
            {"regularise.alpha": 2.0},
            r"regularise.alpha is 2.0, but greg1 has no such number; it has regularise.step",
        ),
        ({"regularise.arguments": {"step": 1.0}}, r"regularise.step is 1.0, but .*say it once"),
        (
            {"sparsify.granularity": "unstructured"},
            r"regularise.name is 'greg1', which pushes channels, and spars",
        ),
        ({"sparsify.allocation": "global"}, r"must know before training .* sparsify.allocation is 'global'"),
        ({"sparsify.ratio": 0.0}, r"sparsify.ratio is 0: there is no channel to push"),
        ({"pipeline": "scratch"}, r"regularise.name is 'greg1', and pipeline 'scratch' cuts nothing"),
        (
            {"regularise.name": "slimming", **UNSET},
            r"regularise.name is 'slimming', which finds nothing to act on",
        ),
        (
            {"regularise.name": "my_parts_not_there:f"},
            r"regularise.name is 'my_parts_not_there:f', but there is no",
        ),
        (
            {"chain": ({"stage": "pretrain"}, {"stage": "regularise"}, {"stage": "retrain"})},
            r"chain\[1\].stage is 'regularise', and nothing is cut after it",
        ),
    ],
)
def test_bad_input_is_refused_by_its_key(digits, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        arm_of(digits, **GREG | changes)
    assert "\n" not in str(caught.value)


VECTORS = """
import jax.numpy as jnp

def net(num_classes, input_shape):
    def init(key, x):
        return {"a": jnp.ones(64), "b": jnp.ones(64), "head": jnp.ones((64, num_classes))}

    def apply(params, x):
        x = x.reshape(x.shape[0], -1)
        hidden = x.sum(1, keepdims=True) * params["a"][None] + params["b"][None]
        return hidden @ params["head"]

    return init, apply
"""


def test_tpp_on_a_network_whose_channels_no_kernel_makes_is_refused(digits, write):
    mine = {"model.name": f"{write(VECTORS)}:net", "regularise.name": "tpp", "regularise.limit": None}
    config = mlp_config()
    config.model.options = {}
    with pytest.raises(ValueError, match=r"(regularise|sparsify\.layers).*(no kernel|frozen)"):
        sweep.plan_arms(sweep.override(config, GREG | mine), None, digits)


CODE = re.search(
    r"```py\n# my_penalties.py\n(.*?)```", (ROOT / "docs/regularizers.md").read_text(), re.DOTALL
).group(1)
UNFIT = """
def vector(leaves, groups):
    return leaves[groups[0].producer.path].sum(0)

number = 3
"""


def test_a_regulariser_of_ones_own_is_named_by_its_function(digits, write):
    name = write(CODE + UNFIT)
    mine = {
        "regularise.name": f"{name}:even",
        "regularise.arguments": {"power": 2.0},
    }
    arm = arm_of(digits, **GREG | UNSET | mine)
    spec = arm.chain[1]
    assert dict(spec.arguments) == {"strength": 1e-4, "power": 2.0}
    assert len(spec.source) == 64
    assert arm.config["own_parts"]["regularise.name"]["sha256"] == spec.source
    penalty = penalty_of(arm.model, pushing_of(arm.model, spec, {}))
    rng = np.random.default_rng(0)
    leaves = {
        f"params/layers/{i}/kernel": rng.normal(size=shape) for i, shape in enumerate([(64, 10), (10, 10)])
    }
    wanted = 1e-4 * sum(np.var((leaf**2).sum(0)) ** 2 for leaf in leaves.values())
    leaves = {path: np.asarray(leaf, np.float32) for path, leaf in leaves.items()}
    np.testing.assert_allclose(penalty.value((), leaves), wanted, rtol=1e-4)
    for what, told in (
        ("vector", r"returned shape \(10,\); a penalty is a scalar"),
        ("number", "of type int"),
    ):
        with pytest.raises(ValueError, match=rf"^regularise.name is '{name}:{what}', which .*{told}"):
            arm_of(digits, **GREG | UNSET | {"regularise.name": f"{name}:{what}"})


@pytest.mark.parametrize("name", REGULARIZERS)
def test_every_regulariser_is_named_in_the_keys_and_the_page(name):
    keys = (ROOT / "prune_jax/experiment/config/keys/regularise.py").read_text()
    assert f"'{name}'" in keys
    page = (ROOT / "docs/regularizers.md").read_text()
    assert re.search(rf"^\| `{name}` \|", page, re.MULTILINE)


@pytest.mark.slow
def test_rounds_under_tpp_train_the_small_network_towards_the_next_cut(tmp_path, digits):
    """Both seeds keep other channels and train together; a sparsify of one more round finds what was pushed."""
    changes = {
        "regularise.name": "tpp",
        "regularise.limit": None,
        "regularise.epochs": 2,
        "sparsify.rounds": 2,
    }
    changes |= {"regularise.schedule": "0:1e-2", "regularise.strength": 1.0, "regularise.hold": 0}
    arm = arm_of(digits, **GREG | changes)
    context = context_of(tmp_path, digits, arm)
    run.run_chain(context, arm)
    made = record.make_record(context.store, arm, "a test")
    assert [stage.kind for stage in made.stages] == ["pretrain", *["sparsify", "sparsify", "retrain"] * 2]
    assert made.stages[4].macs == made.stages[3].macs < made.costs.dense_macs
    told = disk.read_stage(context.store, arm.ids[0][4])
    assert told["together"] == 2
    keeps = [restore.load(context.store, ids[2]).keep["layers/0"].tolist() for ids in arm.ids]
    assert keeps[0] != keeps[1]
