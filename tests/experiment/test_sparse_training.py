"""Stages under a mask rule: trained, killed and resumed, stated in the record; a rule of the user's own; bad input."""

import jax
import numpy as np
import pytest
from small_runs import KilledError, Killer, context_of, mlp_config

from prune_jax import fairness
from prune_jax.experiment import specs
from prune_jax.experiment.chain import record, restore, run
from prune_jax.experiment.config import sweep
from prune_jax.experiment.training.masking import MaskPlan, compiled

SCRATCH = {"pipeline": "sparse_scratch", "sparse_scratch.epochs": 3}
OWN = """
import jax, jax.numpy as jnp, numpy as np
from prune_jax.pruning.mask_rules.rule import MaskRule, MaskState

def alternate(steps, ratio):
    'Even inputs, then odd ones, at every step.'
    def rows(leaf, odd):
        if leaf.ndim < 2:
            return jnp.ones((1,) * leaf.ndim, bool)
        even = jnp.arange(leaf.shape[0]) % 2 == odd
        return jnp.broadcast_to(even.reshape(-1, *[1] * (leaf.ndim - 1)), leaf.shape)
    def init(params, key):
        return MaskState(jax.tree.map(lambda leaf: rows(leaf, 0), params), jnp.int32(0))
    def update(turn):
        odd = 1 - turn.state.memory
        return MaskState(jax.tree.map(lambda leaf: rows(leaf, odd), turn.params), odd)
    return MaskRule(init, update, np.arange(steps, dtype=np.int32), begins_sparse=True)

def growing(steps):
    def init(params, key):
        return MaskState(jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params), jnp.zeros(1))
    return MaskRule(init, lambda turn: MaskState(turn.state.mask, jnp.zeros(2)), np.arange(steps, dtype=np.int32))

def nothing(steps):
    return None
"""


def planned(digits, *entries):
    config = mlp_config()
    config.dataset.name, config.seeds = "digits", (0, 1)
    config.pretrain.epochs = config.retrain.epochs = 1
    config.gradual.epochs = 2
    config.optimizer.batch_size = 300  # four steps an epoch
    config.mask_rule.ratio = 0.6
    return sweep.plan_arms(config, lambda _: list(entries), digits)


def ends_of(context, arm, position=-1):
    return [restore.load(context.store, ids[position]) for ids in arm.ids]


def assert_equal(mine, theirs):
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


def pruned(network):
    leaves = zip(jax.tree.leaves(network.variables["params"]), jax.tree.leaves(network.mask), strict=True)
    return np.concatenate([np.asarray(w)[~np.broadcast_to(m, w.shape)] for w, m in leaves])


def test_rigl_killed_and_resumed_ends_bit_for_bit_the_same(digits, tmp_path):
    rigl = {"label": "rigl", **SCRATCH, "mask_rule.name": "rigl", "mask_rule.interval": 3}
    (arm,) = planned(digits, rigl)
    whole = context_of(tmp_path / "whole", digits, arm)
    run.run_chain(whole, arm)
    for _ in range(2):
        with pytest.raises(KilledError):
            run.run_chain(context_of(tmp_path / "killed", digits, arm, progress=Killer(1)), arm)
    killed = context_of(tmp_path / "killed", digits, arm)
    run.run_chain(killed, arm)
    for mine, theirs in zip(ends_of(killed, arm), ends_of(whole, arm), strict=True):
        assert_equal((mine.variables, mine.mask), (theirs.variables, theirs.mask))
        assert pruned(mine).size
        assert not pruned(mine).any()
    masks = [network.mask for network in ends_of(whole, arm)]
    assert any(
        (a != b).any() for a, b in zip(*map(jax.tree.leaves, masks), strict=True)
    )  # a mask of each seed's own

    made = record.make_record(whole.store, arm, "a test")
    (stage,) = made.stages
    assert (stage.kind, made.method, made.axes.schedule) == ("scratch", "rigl", "progressive")
    assert made.axes.ratio == "0.6"
    assert stage.masked_macs < stage.macs == made.costs.dense_macs
    # two turns, at steps 3 and 6 of 12, need the gradients of all weights
    assert stage.extra_macs == pytest.approx((stage.macs - stage.masked_macs) * 2 / 12)
    compute = fairness.chain.dense_epochs(made, fairness.chain.ALL)
    assert compute == pytest.approx(3 * (stage.masked_macs + stage.extra_macs / 3) / stage.macs)


def test_gmp_prunes_a_trained_network_and_retraining_holds_its_mask(digits, tmp_path):
    given = {"pipeline": "gradual", "mask_rule.name": "gmp", "mask_rule.end": 1.0, "mask_rule.interval": 2}
    (arm,) = planned(digits, {"label": "gmp", **given})
    context = context_of(tmp_path / "w", digits, arm)
    run.run_chain(context, arm)
    for middle, end in zip(ends_of(context, arm, 1), ends_of(context, arm), strict=True):
        assert_equal(middle.mask, end.mask)
        assert not pruned(end).any()
        kernel = middle.mask["layers"][0]["kernel"]
        assert np.mean(kernel) == pytest.approx(0.4, abs=0.01)
    made = record.make_record(context.store, arm, "a test")
    assert [stage.kind for stage in made.stages] == ["pretrain", "sparsify", "retrain"]
    assert [stage.epochs for stage in made.stages] == [1, 2, 1]
    assert made.stages[2].masked_macs < made.stages[1].masked_macs < made.stages[1].macs
    assert made.stages[0].masked_macs is None
    assert made.costs.compression > 1.5


def test_filters_that_are_softly_pruned_are_those_that_are_cut(digits, tmp_path):
    chain = ({"stage": "pretrain"}, {"stage": "gradual"}, {"stage": "sparsify"}, {"stage": "retrain"})
    given = {"chain": chain, "mask_rule.name": "sfp", "sparsify.ratio": 0.6, "sparsify.criterion": "l2"}
    (arm,) = planned(digits, {"label": "sfp", **given})
    context = context_of(tmp_path / "w", digits, arm)
    run.run_chain(context, arm)
    for soft, cut, end in zip(*(ends_of(context, arm, i) for i in (1, 2, 3)), strict=True):
        alive = np.asarray(soft.mask["layers"][0]["kernel"]).any(0)
        assert np.flatnonzero(alive).tolist() == cut.keep["layers/0"].tolist()
        assert cut.mask is None
        assert end.mask is None
    made = record.make_record(context.store, arm, "a test")
    assert made.method == "sfp, l2"
    assert made.costs.pruned_macs < made.costs.dense_macs


def test_ratios_share_one_compiled_trainer(digits):
    entries = [
        {"label": f"{r}", **SCRATCH, "mask_rule.name": "set", "mask_rule.ratio": r} for r in (0.5, 0.8)
    ]
    plans = [MaskPlan(arm.chain[0].masking, 12, 4) for arm in planned(digits, *entries)]
    assert plans[0] != plans[1]
    assert compiled(plans[0]) == compiled(plans[1])


def test_a_rule_of_the_users_own_is_named_and_hashed(digits, tmp_path, write):
    name = f"{write(OWN)}:alternate"
    given = {"label": "own", **SCRATCH, "mask_rule.name": name, "mask_rule.layers": ("*",)}
    (arm,) = planned(digits, given)
    assert len(arm.chain[0].masking.source) == 64
    context = context_of(tmp_path / "w", digits, arm)
    run.run_chain(context, arm)
    (network, _) = ends_of(context, arm)
    assert (
        np.asarray(network.mask["head"]["kernel"])[:, 0].tolist() == [True, False] * 5
    )  # twelve turns: even again
    assert not pruned(network).any()
    assert "own_parts" in record.make_record(context.store, arm, "a test").config


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("growing", "memory has another structure, shape or type after a turn"),
        ("nothing", "must return a MaskRule"),
    ],
)
def test_an_own_rule_that_cant_be_used_is_refused(digits, write, function, says):
    name = f"{write(OWN)}:{function}"
    with pytest.raises(ValueError, match=says):
        planned(digits, {"label": "own", "pipeline": "gradual", "mask_rule.name": name})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {**SCRATCH, "mask_rule.name": "rigl"},
            r"mask_rule.interval is 100 steps, and 8 of the 12 .*epochs=3",
        ),
        ({**SCRATCH, "mask_rule.name": "rigll"}, "mask_rule.name is 'rigll'.*'rigl'"),
        (
            {**SCRATCH, "mask_rule.name": "gmp"},
            "mask_rule.name is 'gmp', under which a network is dense at first",
        ),
        (
            {**SCRATCH, "mask_rule.name": "set", "mask_rule.granularity": "2:4"},
            "mask_rule.granularity is '2:4', which",
        ),
        (
            {**SCRATCH, "mask_rule.name": "static", "mask_rule.ratio": None},
            "mask_rule.ratio is None, and rule 'static'",
        ),
        (
            {**SCRATCH, "mask_rule.name": "static", "mask_rule.end": 0.5},
            "mask_rule.end is 0.5, but rule 'static' takes",
        ),
        ({**SCRATCH, "mask_rule.name": "set", "mask_rule.ratio": 1.0}, "mask_rule.ratio is 1.0"),
        (
            {**SCRATCH, "mask_rule.name": "set", "mask_rule.layers": ("odd",)},
            "mask_rule.layers: no layer's name fits",
        ),
        ({**SCRATCH, "mask_rule.name": "ste", "mask_rule.ratio": None}, "pattern 2:4 doesn't fit layer"),
        (
            {"chain": ({"stage": "pretrain"}, {"stage": "sparsify"}, {"stage": "gradual"})},
            r"chain\[2\].stage is 'gradual' of a network that is pruned already",
        ),
        (
            {
                "chain": (
                    {"stage": "pretrain"},
                    {"stage": "gradual"},
                    {"stage": "sparsify"},
                    {"stage": "retrain"},
                )
            },
            "sparsify.granularity is 'filter' in stage 2 of the chain, after rule 'gmp' has masked",
        ),
        (
            {"chain": ({"stage": "sparse_scratch"}, {"stage": "sparsify"}, {"stage": "retrain"})},
            r"chain\[1\].stage is 'sparsify' after 'sparse_scratch', whose network is sparse",
        ),
    ],
)
def test_bad_input_is_refused_with_the_key(digits, given, says):
    with pytest.raises(ValueError, match=says):
        planned(digits, {"label": "bad", **given})


def test_kinds_are_named_by_their_words():
    masking = specs.Masking("static", ())
    train = specs.TrainSpec("0:0.1", 1, 1, 0.0, 0.0)
    images, model = specs.DataSpec("x", (), ()), specs.ModelSpec("x", (1,), 1)
    assert specs.kind(specs.SparseScratch(images, model, train, masking)) == "sparse_scratch"
    assert specs.kind(specs.Gradual(images, train, masking)) == "gradual"
