"""Speedups of a config's network before its data is there."""

import pytest

from prune_jax.experiment.protocols import recipes, speedups
from prune_jax.experiment.specs import ModelSpec

MLP = ModelSpec("mlp7_relu", (8, 8, 1), 10)


def mlp_macs(hidden):
    return 64 * hidden + 5 * hidden**2 + 10 * hidden


def test_the_network_is_sized_for_the_data_set():
    spec = speedups.spec_of(recipes.resnet34_imagenet100("x"))
    assert (spec.name, spec.input_shape, spec.num_classes) == ("resnet34", (224, 224, 3), 100)


def test_speedup_is_exact():
    assert speedups.speedup(MLP, (), 0.5) == mlp_macs(100) / mlp_macs(50)
    assert speedups.speedup(MLP, (), 0.0) == 1.0


@pytest.mark.parametrize("target", [1.0, 2.31])
def test_the_smallest_ratio_that_reaches_a_speedup(target):
    ratio = speedups.ratio_for(MLP, (), target)
    keep = {k: mlp_macs(100) / mlp_macs(k) for k in range(1, 101)}
    widest = max(k for k, speedup in keep.items() if speedup >= target)
    # of 100 units ceil(100 r) go: the smallest thousandth that removes 100 - widest
    assert ratio == pytest.approx(max(0.0, (99 - widest) / 100 + 0.001) if widest < 100 else 0.0)


def test_a_speedup_out_of_reach_is_named():
    with pytest.raises(ValueError, match=r"mlp7_relu reaches no speedup of 1e\+06x: .* at ratio 0.999"):
        speedups.ratio_for(MLP, (), 1e6)


def test_stage_lists_fit_networks_with_as_many_stages():
    assert speedups.has_stages(ModelSpec("resnet50", (224, 224, 3), 1000), 6)
    assert not speedups.has_stages(MLP, 6)
