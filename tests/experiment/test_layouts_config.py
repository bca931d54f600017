"""Granularities that a config names: refused in one line, or the stage that it means and the mask that comes of it."""

import numpy as np
import pytest
from small_runs import mlp_config

from prune_jax.experiment import dry_run, networks, specs
from prune_jax.experiment.chain import record
from prune_jax.experiment.config import sweep


def arm_of(digits, **changes):
    config = mlp_config()
    config.seeds = (0,)
    dotted = {f"sparsify.{key}" if key != "chain" else key: value for key, value in changes.items()}
    return sweep.plan_arms(sweep.override(config, dotted), None, digits)[0]


def cut_of(digits, **changes):
    return next(spec for spec in arm_of(digits, **changes).chain if isinstance(spec, specs.Sparsify))


def test_a_pattern_says_how_much_goes(digits):
    cut = cut_of(digits, granularity="1:4", ratio=0.75, layers=("layers/0",))
    assert (cut.granularity, cut.ratios, cut.pad, cut.block) == ("1:4", (("layers/0", 0.75),), False, ())
    assert any(
        "l1, 1:2, ratio 0.5" in line for line in dry_run.describe([arm_of(digits, granularity="1:2")], digits)
    )


def test_a_block_and_its_ratio(digits):
    cut = cut_of(digits, granularity="block", block=(2, 5), ratio=0.6)
    assert (cut.granularity, cut.block) == ("block", (2, 5))
    said = dry_run.describe([arm_of(digits, granularity="block", block=(2, 5))], digits)
    assert any("block 2x5, ratio 0.5" in line for line in said)


def test_erk_is_ratios_of_its_own(digits):
    cut = cut_of(digits, granularity="unstructured", allocation="erk", ratio=0.8, layers=("*",))
    sizes = {"layers/0": 640, "layers/1": 100, "head": 100}
    gone = {name: round(ratio * sizes[name]) for name, ratio in cut.ratios}
    assert sum(gone.values()) == 0.8 * 840
    arm = arm_of(digits, granularity="unstructured", allocation="erk", ratio=0.8, layers=("*",))
    assert record.axes_of(arm).ratio == "erk 0.8"
    densities = {name: 1 - dict(cut.ratios)[name] for name in sizes}
    # 168 stay; raw 74/640 and 20/100 twice: sums 74, 20, 20
    wanted = {name: 168 / 114 * part for name, part in {"layers/0": 74 / 640, "layers/1": 0.2}.items()}
    assert densities["layers/0"] == pytest.approx(wanted["layers/0"], abs=1 / 640)
    assert densities["layers/1"] == pytest.approx(wanted["layers/1"], abs=1 / 100)


def test_old_stages_say_nothing_of_layouts(digits):
    for changes in ({}, {"granularity": "unstructured"}):
        told = specs.stated(cut_of(digits, pad=True, **changes))
        assert not {"block", "pad"} & set(told)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"granularity": "filtre"}, "'filtre'; allowed: filter, .*N:M such as '2:4'; did you mean 'filter'"),
        ({"granularity": "4:2"}, "sparsify.granularity: '4:2' is no pattern N:M with 0 < N < M"),
        (
            {"granularity": "2:3"},
            "'layers/0', which contracts over 64 inputs, no multiple of 3: leave it out of sparsify.layers, or set",
        ),
        ({"granularity": "2:4", "allocation": "global"}, "all layers lose alike"),
        (
            {"granularity": "1:4", "ratio": 0.2},
            "sparsify.ratio is 0.2, but sparsify.granularity '1:4' removes 0.75 of each layer: leave the ratio out",
        ),
        ({"granularity": "2:4", "rounds": 2}, "sparsify.rounds is 2, and sparsify.granularity '2:4'"),
        ({"granularity": "block"}, r"sparsify.block: block \(4, 4\) doesn't fit layer 'layers/0'"),
        ({"granularity": "block", "block": (2, 0)}, "sparsify.block: a block is"),
        ({"granularity": "head"}, "no group's channels are attention heads"),
        ({"granularity": "filter", "allocation": "erk"}, "'erk', which is of single weights"),
        (
            {"granularity": "block", "block": (2, 5), "criterion": "taylor", "stage_ratios": (0.5,)},
            "stage_ratios",
        ),
        ({"granularity": "2:4", "allocation": "speedup"}, "all layers lose alike"),
    ],
)
def test_what_does_not_fit_is_refused(digits, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        arm_of(digits, **changes)
    assert "\n" not in str(error.value)


def test_a_short_last_group_where_that_is_asked_for(digits):
    cut = cut_of(digits, granularity="2:3", pad=True)
    assert cut.pad
    assert dict(cut.ratios)["layers/0"] == pytest.approx(1 / 3)
    assert np.isclose(specs.stated(cut)["ratios"][0][1], 1 / 3)


ATTENTION = """
import jax
from flax import nnx

class Net(nnx.Module):
    def __init__(self, rngs, width, classes):
        self.stem = nnx.Linear(width, 12, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, 12, decode=False, rngs=rngs)
        self.head = nnx.Linear(12, classes, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x[..., 0])
        return self.head((x + self.attention(x)).mean(1))

def net(num_classes, input_shape, rngs):
    return Net(rngs, input_shape[1], num_classes)
"""


def test_heads_of_attention_are_named_by_their_granularity(digits, write):
    config = mlp_config()
    config.seeds, config.model.name, config.model.options = (0,), f"{write(ATTENTION)}:net", {}

    def cut(**changes):
        dotted = {f"sparsify.{key}": value for key, value in {"granularity": "head", **changes}.items()}
        return sweep.plan_arms(sweep.override(config, dotted), None, digits)[0].chain[1]

    assert cut().ratios == (("attention/query/kernel:1", 0.5),)
    ranking = cut(allocation="global", ratio=0.25).ranking
    assert (ranking.ratio, ranking.normalise) == (0.25, "mean")
    assert networks.unit_sizes(cut_model(config, digits), ranking.layers, "head") == {
        "attention/query/kernel:1": 4
    }
    with pytest.raises(ValueError, match="no group's channels are attention heads, groups are stem"):
        cut(layers=("stem",))


def cut_model(config, digits):
    return sweep.plan_arms(config, None, digits)[0].model
