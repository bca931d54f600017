"""Weights rewound, or never trained: bit for bit those of the early epochs, and what a record says of such a chain."""

import contextlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import KilledError, Killer, context_of, mlp_config

from prune_jax import fairness
from prune_jax.experiment import dry_run, networks, specs
from prune_jax.experiment.chain import record, restore, run, train
from prune_jax.experiment.config import sweep
from prune_jax.experiment.config.rewinding import refuse_beyond
from prune_jax.experiment.devices.replicas import split, stacked
from prune_jax.experiment.storage import stages as disk
from prune_jax.experiment.training import cohort, feed
from prune_jax.experiment.training.step import variables_of
from prune_jax.experiment.training.trainer import make_trainer, to_device

SCHEDULE = "0:1e-2,2:1e-3"
MASKED = {"sparsify.granularity": "2:4", "sparsify.pad": True}


def arm_of(digits, **changes):
    config = mlp_config()
    config.seeds = (0, 1)
    config.pretrain.epochs, config.pretrain.schedule, config.retrain.epochs = 3, SCHEDULE, 1
    return sweep.plan_arms(sweep.override(config, changes), None, digits)[0]


BACK = {"stage": "rewind", "to": 1}


def listed(*stages):
    return {"chain": tuple({"stage": stage} if isinstance(stage, str) else stage for stage in stages)}


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(leaves(one), leaves(other), strict=True))


@pytest.fixture(scope="module")
def rewound(tmp_path_factory, digits):
    """Runs that rewind to epochs 0 and 1, and one that doesn't, in one workdir."""
    arms = [
        arm_of(digits, **{"rewind.to": 1}),
        arm_of(digits, **{"rewind.to": 0, **MASKED}),
        arm_of(digits),
    ]
    context = context_of(tmp_path_factory.mktemp("rewound"), digits, *arms)
    for arm in arms:
        run.run_chain(context, arm)
    return context, arms


def test_epoch_k_is_bit_for_bit_that_of_training_k_epochs(rewound, digits):
    """The oracle steps the long pretraining's own program epoch by epoch and stops in the middle."""
    context, (arm, *_) = rewound
    recipe = train.recipe_of(arm, arm.chain[0])
    recipe = recipe._replace(mesh=recipe.mesh.for_cohort(2))
    trainer = make_trainer(recipe)
    state = trainer.init(stacked([train.fresh(arm.model, None, seed) for seed in arm.seeds]))
    keys = jnp.stack([cohort.member_key(seed, "pretrain") for seed in arm.seeds])
    on = to_device(digits)
    fed = feed.open_feed(trainer, recipe, on, keys, 0, {})
    steps = len(digits.train.labels) // 100
    state, _ = fed.run(
        state, 0, np.full(steps, 1e-2, np.float32), feed.Halfway(), lambda: False, lambda *_: None
    )
    for number, variables in enumerate(split(jax.device_get(variables_of(state)))):
        after = restore.load(context.store, arm.ids[number][2])
        small = restore.load(context.store, arm.ids[number][1])
        assert after.keep.keys() == small.keep.keys()
        kept = [after.keep["layers/0"], after.keep["layers/1"]]
        wanted = variables["params"]["layers"][0]["kernel"][:, kept[0]]
        assert np.array_equal(after.variables["params"]["layers"][0]["kernel"], wanted)
        wanted = variables["params"]["layers"][1]["kernel"][np.ix_(*kept)]
        assert np.array_equal(after.variables["params"]["layers"][1]["kernel"], wanted)


def test_a_lottery_ticket_has_its_first_weights_and_zeros(rewound):
    context, (_, arm, _) = rewound
    for number, seed in enumerate(arm.seeds):
        after = restore.load(context.store, arm.ids[number][2])
        first = networks.fresh(arm.model, None, cohort.member_key(seed, "init"))["params"]
        assert 0.3 < np.mean([np.mean(mask == 0) for mask in leaves(after.mask) if mask.size > 10]) < 0.7
        for weight, mask, start in zip(
            *map(leaves, (after.variables["params"], after.mask, first)), strict=True
        ):
            full = np.broadcast_to(mask, start.shape)
            assert np.array_equal(weight[full], start[full])
            assert not weight[~full].any()
        trained = restore.load(context.store, arm.ids[number][3]).variables["params"]
        assert not same(trained, after.variables["params"])
        for weight, mask in zip(leaves(trained), leaves(after.mask), strict=True):
            assert not weight[~np.broadcast_to(mask, weight.shape)].any()


def test_all_of_the_pretraining_is_the_pretraining_itself(rewound, digits):
    context, _ = rewound
    arm = arm_of(digits, **{"rewind.to": 3, "seeds": (0,)})
    before = {path.name for path in (context.store.root / "stages").iterdir()}
    run.run_chain(context._replace(arms=(arm,)), arm)
    made = {path.name for path in (context.store.root / "stages").iterdir()} - before
    assert made == set(arm.ids[0][2:])
    cut, back = (restore.load(context.store, its_id).variables for its_id in arm.ids[0][1:3])
    assert same(cut, back)


def test_what_a_record_says(rewound):
    context, (arm, ticket, plain) = rewound
    one, zero, none = (record.make_record(context.store, each, "a test") for each in (arm, ticket, plain))
    assert [stage.kind for stage in one.stages] == ["pretrain", "sparsify", "rewind", "retrain"]
    assert one.stages[2].spec == {"to": 1}
    assert one.stages[2].macs == one.stages[3].macs == one.costs.pruned_macs < one.costs.dense_macs
    assert (one.method, zero.method, none.method) == ("l1+rewind1", "l1+rewind0", "l1")
    assert zero.axes.granularity == "2:4"
    assert zero.costs.pruned_params < zero.costs.dense_params
    assert one.results[0].base_accuracy == none.results[0].base_accuracy
    start = disk.read_stage(context.store, arm.ids[0][3])["history"][0]["test_accuracy"]
    assert one.results[0].epochs[0].test_accuracy == start
    assert json.loads(json.dumps(one.stages[2].spec)) == {"to": 1}


def test_which_setups_hold_beside_a_chain_that_does_not_rewind(rewound):
    context, (arm, _, plain) = rewound
    one, none = (record.make_record(context.store, each, "a test") for each in (arm, plain))
    verdict = fairness.strictest_setup(one, none)
    assert set(verdict.holding) == {
        "S1",
        "S2",
        "S3.1",
        "S3.2",
        "S4.1",
        "S4.2",
        "SX-A",
        "SX-B",
        "same_overall_schedule",
    }


def test_a_dry_run_tells_of_the_stage_that_holds_the_early_weights(digits):
    arms = [
        arm_of(digits, **{"rewind.to": 1}),
        arm_of(digits, **{"rewind.to": 3}),
        arm_of(digits, **{"rewind.to": 0}),
    ]
    lines = list(dry_run.describe(arms, digits))
    early = specs.Pretrain(
        arms[0].chain[0].data,
        arms[0].model,
        specs.TrainSpec("0:0.01", 1, 100, 0.9, 0.0),
    )
    told = [line for line in lines if line.strip().startswith("rewind")]
    assert f"epoch 1 of pretraining, kept as stage {specs.stage_id(early, 0, None)}" in told[0]
    assert "FLOPs a seed" in told[0]
    assert f"kept as stage {arms[1].ids[0][0]}, which a stage above is" in told[1]
    assert "back to initialisation" in told[2]


def test_ids_tell_rewinds_apart_and_leave_others_alone(digits):
    ids = [arm_of(digits, **{"rewind.to": to}).ids[0] for to in (0, 1, 2)]
    plain = arm_of(digits).ids[0]
    assert len({chain[2] for chain in ids}) == 3
    assert {chain[:2] for chain in ids} == {plain[:2]}
    listed = arm_of(
        digits,
        chain=(
            {"stage": "pretrain"},
            {"stage": "sparsify"},
            {"stage": "rewind", "to": 1},
            {"stage": "retrain"},
        ),
    )
    assert listed.ids[0] == ids[1]


def test_a_listed_chain_may_begin_with_random_weights(digits):
    by_hand = arm_of(digits, **listed("initialise", "sparsify", "retrain"))
    assert by_hand.ids == arm_of(digits, pipeline="prune_at_init").ids
    assert [specs.kind(spec) for spec in by_hand.chain] == ["initialise", "sparsify", "retrain"]


def test_rounds_rewind_after_each_cut(digits):
    chain = arm_of(digits, **{"rewind.to": 0, "sparsify.rounds": 2}).chain
    kinds = [specs.kind(spec) for spec in chain]
    assert kinds == ["pretrain", *["sparsify", "rewind", "retrain"] * 2]


def test_random_weights_are_a_stage(tmp_path, digits):
    arm = arm_of(digits, pipeline="prune_at_init", seeds=(0,))
    context = context_of(tmp_path, digits, arm)
    run.run_chain(context, arm)
    assert run.is_chain_finished(context, arm)
    found = restore.load(context.store, arm.ids[0][0])
    assert same(found.variables, networks.fresh(arm.model, None, cohort.member_key(0, "init")))
    made = record.make_record(context.store, arm, "a test")
    assert [stage.kind for stage in made.stages] == ["initialise", "sparsify", "retrain"]
    assert (made.method, made.axes.base_model) == ("l1 at init", "random")
    assert made.stages[0].epochs == 0
    again = fairness.strictest_setup(made, made)
    assert again.strictest == "S4.2"


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"rewind.to": 2},
        {"rewind.to": 0, **MASKED},
        {"pipeline": "prune_at_init"},
        {"rewind.to": 1, "sparsify.rounds": 2},
    ],
)
def test_killed_anywhere_ends_bit_identical(tmp_path, digits, changes):
    arm = arm_of(digits, **changes)
    run.run_chain(context_of(tmp_path / "whole", digits, arm), arm)
    ends = {
        path.parent.name: json.loads(path.read_text())["digest"]
        for path in (tmp_path / "whole").glob("stages/*/stage.json")
    }
    for end in range(1, 6):
        root = tmp_path / f"killed{end}"
        with contextlib.suppress(KilledError):
            run.run_chain(context_of(root, digits, arm, progress=Killer(end)), arm)
        run.run_chain(context_of(root, digits, arm), arm)
        found = {
            path.parent.name: json.loads(path.read_text())["digest"]
            for path in root.glob("stages/*/stage.json")
        }
        assert found == ends


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewind.to": 4}, "rewind.to is 4 in stage 2 of the chain, and pretrain.epochs 3: allowed: 0 to 3"),
        (
            {"rewind.to": 1, "sparsify.recovery": "orthp"},
            "'orthp', which stage 2 of the chain, a rewind to epoch 1",
        ),
        (
            {"rewind.to": 1, "sparsify.criterion": "flap"},
            "'flap', which changes the weights that stay, and stage 2",
        ),
        ({"rewind.to": -1}, "rewind.to is -1; allowed: an epoch of pretraining"),
        ({"rewind.to": "start"}, "rewind.to is 'start'"),
        (
            {"rewind.to": 1, "pipeline": "prune_at_init"},
            "begins with random weights and so has no pretraining",
        ),
        (
            {"pipeline": "prune_at_init", "base.checkpoint": "x.safetensors"},
            "base.checkpoint is 'x.safetensors'",
        ),
        (
            {"retrain.schedule": "rewind", "retrain.epochs": 4},
            "'rewind' of 4 epochs, and the pretraining has 3",
        ),
        ({"retrain.schedule": "clr(1)"}, r"'clr\(1\)' is no schedule; allowed: 'rewind', 'clr'"),
        ({"retrain.schedule": "clr"}, "a warm-up of 1 epochs"),
        (
            {"retrain.schedule": "rewind", "pipeline": "prune_at_init"},
            "told by the LRs of a pretraining, and there is none",
        ),
        (listed("pretrain", BACK, "retrain"), r"chain\[1\].stage is 'rewind', and nothing is pruned before"),
        (listed("pretrain", "sparsify", BACK), r"chain\[2\].stage is 'rewind'; a chain ends with training"),
        (listed("scratch", BACK, "retrain"), "'rewind' after 'scratch'"),
        (listed({"stage": "initialise", "to": 1}, "retrain"), "unknown key of"),
        (listed("pretrain", "sparsify", "rewind", "retrain"), "rewind.to is None"),
    ],
)
def test_what_cannot_be_rewound_is_refused(digits, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        arm_of(digits, **changes)
    assert "\n" not in str(error.value)


def test_a_base_model_from_a_file_has_no_early_epochs():
    chain = (
        specs.Imported("0" * 64, None, None),
        specs.Sparsify("l1", ()),
        specs.Rewind(0),
        specs.Retrain(None, None),
    )
    with pytest.raises(ValueError, match="begins with a base model from a file and so has no pretraining"):
        refuse_beyond(chain)


def test_learning_rates_of_a_retraining_are_told_by_the_pretraining(digits):
    told = {"retrain.schedule": "rewind", "retrain.epochs": 2}
    assert arm_of(digits, **told).chain[-1].train.schedule == "0:0.01,1:0.001"
    cyclic = {"retrain.schedule": "clr", "retrain.epochs": 3}
    assert arm_of(digits, **cyclic).chain[-1].train.schedule == "0:linear(0.001,0.01),1:cosine(0.01,0.001)"
    stated = {"retrain.schedule": "clr(1e-3,0.1,0.5)", "retrain.epochs": 4}
    assert arm_of(digits, **stated).chain[-1].train.schedule == "0:linear(0.001,0.1),2:cosine(0.1,0.001)"
    first = {"stage": "pretrain", "epochs": 2, "schedule": "0:0.5,1:0.1"}
    own = arm_of(
        digits, chain=(first, {"stage": "sparsify"}, {"stage": "retrain", "epochs": 1, "schedule": "rewind"})
    )
    assert own.chain[-1].train.schedule == "0:0.1"
