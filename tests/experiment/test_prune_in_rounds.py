"""Prune and retrain in turn: ratios of the dense network, killed and resumed, masks held, costs of each round."""

import contextlib
import json

import jax
import numpy as np
import pytest
from small_runs import KilledError, Killer, context_of, mlp_config

from prune_jax.experiment import networks
from prune_jax.experiment.chain import record, restore, run
from prune_jax.experiment.config import sweep
from prune_jax.pruning import cost

MASKED = {
    "sparsify.granularity": "unstructured",
    "optimizer.name": "adamw",
    "optimizer.weight_decay": 0.1,
}
RANKED = {"sparsify.allocation": "global", "sparsify.at_least": 0.2}


def arm_of(digits, **changes):
    config = mlp_config()
    config.seeds = (0, 1)
    config.pretrain.epochs = config.retrain.epochs = 1
    config.sparsify.ratio = 0.6
    return sweep.plan_arms(sweep.override(config, {"sparsify.rounds": 3, **changes}), None, digits)[0]


def outcome(root):
    found = {p.parent.name: json.loads(p.read_text()) for p in root.glob("stages/*/stage.json")}
    return {name: (told["digest"], told.get("history"), told.get("keep")) for name, told in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, MASKED], ids=["filter", "unstructured"])
def test_killed_in_any_round_ends_bit_identical(tmp_path, digits, changes):
    arm = arm_of(digits, **changes)
    run.run_chain(context_of(tmp_path / "whole", digits, arm), arm)
    for end in (2, 3):
        root = tmp_path / f"killed{end}"
        with contextlib.suppress(KilledError):
            run.run_chain(context_of(root, digits, arm, progress=Killer(end), seconds=0.0), arm)
            pytest.fail("the run was to be killed")
        run.run_chain(context_of(root, digits, arm, seconds=0.0), arm)
        assert outcome(root) == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_each_round_drops_the_smallest_filters_that_are_left(tmp_path, digits):
    arm = arm_of(digits)
    context = context_of(tmp_path, digits, arm)
    run.run_chain(context, arm)
    for ids in arm.ids:
        alive = {name: np.arange(size) for name, size in sizes(arm).items()}
        for position, gone in ((1, 0.2), (3, 0.4), (5, 0.6)):
            params = restore.load(context.store, ids[position - 1]).variables["params"]
            after = restore.load(context.store, ids[position])
            for name in after.keep:
                kernel = np.asarray(params["layers"][int(name.split("/")[1])]["kernel"], np.float64)
                stays = len(kernel[0]) - (
                    np.ceil(gone * sizes(arm)[name] - 1e-9) - sizes(arm)[name] + len(alive[name])
                )
                best = np.sort(np.argsort(np.abs(kernel).mean(0), kind="stable")[::-1][: int(stays)])
                alive[name] = alive[name][best]
                assert after.keep[name].tolist() == alive[name].tolist()


def sizes(arm):
    return {g.name: g.size for g in networks.groups_of(arm.model) if g.name in dict(arm.ratios)}


def test_masks_hold_exact_zeros_through_training_and_only_grow(tmp_path, digits):
    arm = arm_of(digits, **MASKED, **{"sparsify.rounds": 2})
    context = context_of(tmp_path, digits, arm)
    run.run_chain(context, arm)
    ends = []
    for ids in arm.ids:
        before = None
        for cut, end, ratio in ((1, 2, 0.3), (3, 4, 0.6)):
            mask = restore.load(context.store, ids[cut]).mask
            trained = restore.load(context.store, ids[end])
            zeros = jax.tree.map(lambda m: ~np.asarray(m), mask)
            for layer in zeros["layers"]:
                gone = zeros["layers"][layer]["kernel"]
                kernel = np.asarray(trained.variables["params"]["layers"][layer]["kernel"])
                assert gone.sum() == np.ceil(ratio * gone.size - 1e-9)
                assert not kernel[gone].any()
                assert before is None or (gone | ~before["layers"][layer]["kernel"]).all()
            before = zeros
        ends.append(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(mask)]))
    assert (ends[0] != ends[1]).any()  # each seed trains under its own mask, in one program
    found = record.make_record(context.store, arm, "a test")
    dense = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(trained.variables["params"]))
    assert found.costs.pruned_params == dense - (~ends[0]).sum()
    assert found.axes.schedule == "iterative"


@pytest.mark.slow
def test_a_global_rankings_costs_are_each_seeds_own(tmp_path, digits):
    arm = arm_of(digits, **RANKED)
    context = context_of(tmp_path, digits, arm)
    run.run_chain(context, arm)
    network, macs = networks.network_of(arm.model), []
    for ids in arm.ids:
        end = restore.load(context.store, ids[-1])
        macs.append(cost.count(network.apply, end.variables, networks.example_of(arm.model)).macs)
        kept = {name: len(end.keep.get(name, range(size))) for name, size in sizes_of_all(arm).items()}
        assert all(kept[name] >= np.ceil(0.2 * size - 1e-9) for name, size in sizes_of_all(arm).items())
        assert sum(kept.values()) == sum(sizes_of_all(arm).values()) - np.ceil(
            0.6 * sum(sizes_of_all(arm).values())
        )
    found = record.make_record(context.store, arm, "a test")
    assert found.costs.pruned_macs == np.mean(macs)
    assert [seed.macs for seed in found.results] == macs
    assert [stage.kind for stage in found.stages] == ["pretrain", *["sparsify", "retrain"] * 3]
    assert [curve.stage for curve in found.results[0].rounds] == [2, 4]


def sizes_of_all(arm):
    return {g.name: g.size for g in networks.groups_of(arm.model) if g.frozen is None}


def test_a_target_speedup_is_reached_in_every_round(tmp_path, digits):
    changes = {"sparsify.allocation": "speedup", "sparsify.speedup": 3.0, "sparsify.rounds": 2, "seeds": (0,)}
    arm = arm_of(digits, **changes)
    context = context_of(tmp_path, digits, arm)
    run.run_chain(context, arm)
    dense = networks.cost_of(arm.model).macs
    found = record.make_record(context.store, arm, "a test")
    for stage, target in zip(found.stages[1::2], (2.0, 3.0), strict=True):
        assert stage.macs * target <= dense


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (
            ({"stage": "sparsify"}, {"stage": "retrain"}),
            "chain\\[0\\].stage is 'sparsify', which needs a network",
        ),
        (({"stage": "pretrain"}, {"stage": "sparsify"}), "a chain ends with training"),
        (({"stage": "pretrain"}, {"stage": "prune"}), "chain\\[1\\].stage is 'prune'; allowed"),
        (({"stage": "pretrain"}, {"stage": "retrain", "epoch": 2}), "'epoch'; did you mean 'epochs'"),
        (({"stage": "pretrain"}, {"stage": "pretrain"}), "a chain begins with it, once"),
        (
            (
                {"stage": "pretrain"},
                {"stage": "sparsify", "ratio": 0.5},
                {"stage": "sparsify", "ratio": 0.4},
                {"stage": "retrain"},
            ),
            "has 0.4 for layers/0, but 0.5 is gone before",
        ),
    ],
)
def test_a_chain_that_makes_no_sense_is_one_line_before_any_work(digits, chain, message):
    with pytest.raises(ValueError, match=message) as error:
        arm_of(digits, chain=chain)
    assert "\n" not in str(error.value)


def test_a_listed_chain_is_the_one_that_the_keys_describe(digits):
    cuts = [[{"stage": "sparsify", "ratio": ratio}, {"stage": "retrain"}] for ratio in (0.3, 0.6)]
    listed = arm_of(digits, chain=({"stage": "pretrain"}, *cuts[0], *cuts[1]))
    assert listed.ids == arm_of(digits, **{"sparsify.rounds": 2}).ids
    one = arm_of(digits, **{"sparsify.rounds": 1})
    assert one.ids == arm_of(digits, chain=({"stage": "pretrain"}, *cuts[1])).ids


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sparsify.rounds", 0, "rounds is 0"),
        ("sparsify.rounds_schedule", "cubic", "'cubic'"),
        ("sparsify.allocation", "globl", "did you mean 'global'"),
        ("sparsify.round_to", 0, "sparsify.round_to is 0"),
        ("sparsify.granularity", "weight", "sparsify.granularity is 'weight'"),
    ],
)
def test_bad_rounds_are_named(digits, key, value, message):
    with pytest.raises(ValueError, match=message):
        arm_of(digits, **{key: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparsify.allocation": "stages"}, r"sparsify.stage_ratios is \(\); give one ratio"),
        (RANKED | {"sparsify.stage_ratios": (0.5, 0.0)}, "leave one out"),
        ({"pipeline": "scratch", "sparsify.allocation": "global"}, "scratch has none"),
        ({"pipeline": "scratch", "sparsify.allocation": "globl"}, "did you mean 'global'"),
        ({"pipeline": "scratch", "sparsify.granularity": "unstructured"}, "choose 'filter'"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(digits, changes, message):
    with pytest.raises(ValueError, match=message):
        arm_of(digits, **changes)
