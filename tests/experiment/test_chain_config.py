"""What a config says of rounds and of the sparsifying action: refused in one line, or the chain that it means."""

import pytest
from small_runs import mlp_config

from prune_jax.experiment import specs
from prune_jax.experiment.config import sweep

CUT, TRAIN = "sparsify", {"stage": "retrain", "epochs": 1}


def arm_of(digits, **changes):
    config = mlp_config()
    config.seeds = (0,)
    return sweep.plan_arms(sweep.override(config, changes), None, digits)[0]


def rounds_of(*cuts):
    """A chain that trains after each of these cuts."""
    stages = [stage for cut in cuts for stage in ({"stage": CUT, **cut}, TRAIN)]
    return {"chain": ({"stage": "pretrain"}, *stages)}


GLOBAL = {"allocation": "global"}
FAST = {"allocation": "speedup"}
BARE = {"granularity": "unstructured"}


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        (({"ratio": 0.5}, {"ratio": 0.45}), "0.45 for layers/0, but 0.5 is gone before"),
        (({"ratio": 0.6}, GLOBAL | {"ratio": 0.3}), "0.3 for all layers together, but 0.6 is gone before"),
        ((GLOBAL | {"ratio": 0.6}, {"ratio": 0.3}), "0.3 for layers/0, layers/1 together, but 0.6 is gone"),
        ((GLOBAL | {"ratio": 0.6}, GLOBAL | {"ratio": 0.5}), "0.5 for all layers together, but 0.6 is gone"),
        ((FAST | {"speedup": 3.0}, FAST | {"speedup": 2.0}), "a speedup of 2, but 3 is reached before"),
        ((FAST | {"speedup": 3.0}, {"ratio": 0.1}), r"a speedup of 1\.\d+, but 3 is reached before"),
        (({"ratio": 0.8}, FAST | {"speedup": 1.1}), r"a speedup of 1.1, but \d\.\d+ is reached before"),
        ((BARE | {"ratio": 0.6}, BARE | GLOBAL | {"ratio": 0.3}), "0.3 for all layers together, but 0.6"),
        (
            (BARE | {"ratio": 0.6}, {"ratio": 0.7}),
            "'filter' in stage 3 of the chain and 'unstructured' before",
        ),
        (({"ratio": 0.5}, {"ratio": 0.5, "round_to": 4}), "0.2 for layers/0, but 0.5 is gone before"),
    ],
)
def test_a_round_that_asks_for_less_than_is_gone_is_refused(digits, cuts, message):
    with pytest.raises(ValueError, match=message) as error:
        arm_of(digits, **rounds_of(*cuts))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "cuts",
    [
        ({"ratio": 0.5}, GLOBAL | {"ratio": 0.5}, {"ratio": 0.9}),
        (
            {"ratio": 0.5, "layers": ("layers/0",)},
            GLOBAL | {"ratio": 0.25},
        ),  # a quarter of all is one half of one
        (
            GLOBAL | {"ratio": 0.3},
            {"ratio": 0.5, "layers": ("layers/0",)},
        ),  # all of it may be gone in the other layer
        ({"ratio": 0.1}, FAST | {"speedup": 3.0}, {"ratio": 0.9}),
        (FAST | {"speedup": 2.0}, GLOBAL | {"ratio": 0.1}),  # which layers lose is open: nothing is known
        (BARE | {"ratio": 0.2}, BARE | GLOBAL | {"ratio": 0.2}),
    ],
)
def test_rounds_that_rise_in_other_words_are_accepted(digits, cuts):
    assert len(arm_of(digits, **rounds_of(*cuts)).chain) == 1 + 2 * len(cuts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sparsify.allocation": "speedup", "sparsify.speedup": 0.5},
            "^sparsify.speedup is 0.5; .* at least 1",
        ),
        (
            {"sparsify.allocation": "speedup", "sparsify.speedup": 1e6},
            r"sparsify.speedup is 1e\+06; .* gives mlp7_relu \d+",
        ),
        (
            {"sparsify.allocation": "speedup", "sparsify.speedup_scope": "all"},
            "sparsify.speedup_scope is 'all'; allowed: layer, global",
        ),
        (
            {"sparsify.allocation": "speedup", "sparsify.at_least": 0.2},
            "sparsify.at_least is 0.2, the floor of a global ranking",
        ),
        (
            {
                "sparsify.allocation": "speedup",
                "sparsify.at_least": 0.9,
                "sparsify.speedup": 3.0,
                "sparsify.speedup_scope": "global",
            },
            r"sparsify.speedup is 3; .* down to at_least=0.9 of each layer gives mlp7_relu 1\.",
        ),
        (
            {"sparsify.allocation": "global", "sparsify.at_least": 0.9, "sparsify.ratio": 0.6},
            "sparsify.at_least is 0.9 and sparsify.ratio 0.6; .* a ratio of 0.1 can be reached",
        ),
        ({"sparsify.allocation": "global", "sparsify.at_least": 1.5}, "sparsify.at_least is 1.5; allowed"),
        ({"sparsify.normalise": "maen"}, "sparsify.normalise is 'maen'; .*did you mean 'mean'"),
        (
            {"sparsify.criterion": "taylor", "sparsify.evidence.batches": 1000},
            "sparsify.criterion is 'taylor', which needs grads: sparsify.evidence.batches is 1000",
        ),
        (
            {"sparsify.rounds": 2, "retrain_between.epochs": -1},
            r"retrain.epochs is -1; .* \(with retrain_between.epochs=-1\)",
        ),
        (
            {"sparsify.rounds": 2, "retrain_between.schedule": "fast"},
            r"\(with retrain_between.schedule='fast'\)",
        ),
        (
            {"chain": ({"stage": "pretrain"}, {"stage": "sparsify", "ratio": "half"}, TRAIN)},
            r"^chain\[1\]: .*ratio",
        ),
        (
            {"chain": ({"stage": "pretrain"}, {"stage": "sparsify", "ratio": 1.5}, TRAIN)},
            r"sparsify.ratio is 1.5; allowed: \[0, 1\) \(with chain\[1\].ratio=1.5\)",
        ),
        (
            {"chain": ({"stage": "scratch"}, {"stage": "sparsify"}, TRAIN)},
            r"chain\[1\].stage is 'sparsify' after 'scratch'",
        ),
        ({"chain": ("pretrain",)}, r"chain\[0\] is 'pretrain'; an entry is a dict with 'stage'"),
    ],
)
def test_a_bad_value_is_named_with_its_key_and_the_way_out(digits, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        arm_of(digits, **changes)
    assert "\n" not in str(error.value)


def test_the_words_of_a_criterion_of_channels_forbid_single_weights(digits, tmp_path, monkeypatch):
    (tmp_path / "channel_parts.py").write_text(
        "import jax.numpy as jnp\nfrom prune_jax.pruning.criteria.criterion import Criterion\n\n"
        "def by_bias(): return Criterion(lambda evidence: {}, 'channel', frozenset())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    changes = {"sparsify.criterion": "channel_parts:by_bias", "sparsify.granularity": "unstructured"}
    with pytest.raises(ValueError, match=r"scores whole channels, and sparsify\.granularity 'unstructured'"):
        arm_of(digits, **changes)


def test_normalise_is_as_usual_for_each_granularity(digits):
    channels = arm_of(digits, **{"sparsify.allocation": "global"}).chain[1].ranking
    weights = arm_of(
        digits, **{"sparsify.allocation": "global", "sparsify.granularity": "unstructured"}
    ).chain[1]
    assert (channels.normalise, weights.ranking.normalise) == ("mean", "none")


def test_a_dense_network_alone_is_a_chain(digits):
    (stage,) = arm_of(digits, chain=({"stage": "pretrain"},)).chain
    assert isinstance(stage, specs.Pretrain)
