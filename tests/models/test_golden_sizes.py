"""Parameters and multiply-accumulates against published counts and the paper's arithmetic."""

import math
from fractions import Fraction
from functools import cache

import jax
import jax.numpy as jnp
import pytest

from prune_jax import models

IMAGENET = (224, 224, 3)
CIFAR = (32, 32, 3)


def kept(width, ratio):
    """Filters left of `width`: ceil(ratio * width) go, in exact arithmetic."""
    return width - math.ceil(Fraction(ratio) * width)


def sizes(name, num_classes, shape, widths=None):
    """(parameters, MACs of convolutions and dense layers), counted by hand on abstract shapes."""
    return _sizes(name, num_classes, shape, tuple((widths or {}).items()))


@cache
def _sizes(name, num_classes, shape, widths):
    net = models.functional(
        models.abstract(name, num_classes=num_classes, input_shape=shape, widths=dict(widths))
    )
    params = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(net.variables["params"]))
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    macs = 0
    for eqn in jax.make_jaxpr(net.apply)(net.variables, x).eqns:
        if eqn.primitive.name == "conv_general_dilated":
            macs += math.prod(eqn.invars[1].aval.shape) * math.prod(eqn.outvars[0].aval.shape[1:3])
        elif eqn.primitive.name == "dot_general":
            macs += math.prod(eqn.invars[1].aval.shape)
    return params, macs


def cifar_widths(depth, ratio):
    n = (depth - 2) // 6
    return {f"blocks/{i}/conv1": kept(16 * 2 ** (i // n), ratio) for i in range(3 * n)}


def imagenet_widths(blocks, ratios, convs):
    stages = [stage for stage, count in enumerate(blocks) for _ in range(count)]
    return {
        f"blocks/{i}/{conv}": kept(64 * 2**stage, ratios[stage])
        for i, stage in enumerate(stages)
        for conv in convs
    }


def vgg_widths(ratio):
    plain = [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8
    return {f"convs/{i}": kept(plain[i], ratio) for i in range(1, 16)}


@pytest.mark.parametrize(
    ("ratio", "macs", "params"),
    [("0", 3663300608, 21335972), ("0.5", 1900316672, 10789092), ("0.95", 303854336, 1256332)],
)
def test_resnet34_with_conv1_pruned_has_the_costs_of_table_4(ratio, macs, params):
    widths = imagenet_widths((3, 4, 6, 3), [ratio] * 4, ["conv1"])
    assert sizes("resnet34", 100, IMAGENET, widths) == (params, macs)


@pytest.mark.parametrize(
    ("ratio", "macs", "params"),
    [("0", 125485696, 853018), ("0.5", 62964352, 428074), ("0.9", 10838656, 81502)],
)
def test_resnet56_with_option_a_has_the_costs_of_table_6(ratio, macs, params):
    assert sizes("resnet56", 10, CIFAR, cifar_widths(56, ratio)) == (params, macs)


@pytest.mark.parametrize(
    ("ratios", "speedup"),
    [
        ("0.3 0.3 0.3 0.14", 1.489),
        ("0.6 0.6 0.6 0.21", 2.308),
        ("0.74 0.74 0.6 0.21", 2.564),
        ("0.68 0.68 0.68 0.5", 3.063),
    ],
)
def test_resnet50_with_stage_ratios_has_the_speedups_of_appendix_a(ratios, speedup):
    widths = imagenet_widths((3, 4, 6, 3), ratios.split(), ["conv1", "conv2"])
    params, macs = sizes("resnet50", 1000, IMAGENET)
    assert params == 25557032
    assert round(macs / 1e9, 4) == 4.0892
    assert round(macs / sizes("resnet50", 1000, IMAGENET, widths)[1], 3) == speedup


@pytest.mark.parametrize(
    ("ratio", "sparsity"), [("0.1", 19.238), ("0.3", 51.015), ("0.5", 74.870), ("0.7", 90.975)]
)
def test_vgg19_with_the_first_conv_spared_has_the_sparsities_of_table_7(ratio, sparsity):
    params, macs = sizes("vgg19", 100, CIFAR)
    assert (params, round(2 * macs / 1e9, 4)) == (20081188, 0.7964)
    pruned, _ = sizes("vgg19", 100, CIFAR, vgg_widths(ratio))
    assert round(100 * (1 - pruned / params), 3) == sparsity


@pytest.mark.parametrize(
    ("name", "num_classes", "shape", "params"),
    [
        # Stages of 3x3 convolutions added up by hand: 9 * in * out, norms 2 * width, head 64 * 10 + 10.
        ("resnet20", 10, CIFAR, 269722),
        # torchvision's documented num_params.
        ("resnet18", 1000, IMAGENET, 11689512),
        # LeNet-5 with every second-layer filter reading all six maps: the textbook count.
        ("lenet5", 10, (28, 28, 1), 61706),
        # 9 * (16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64) kernels, 2 * 208 norms, 64 * 10 + 10.
        ("conv5_bn", 10, (28, 28, 1), 70330),
        # 784 * 100 + 5 * 100 * 100 + 100 * 10 weights, 6 * 100 + 10 biases.
        ("mlp7_linear", 10, (28, 28, 1), 130010),
        ("mlp7_relu", 10, (28, 28, 1), 130010),
    ],
)
def test_dense_networks_have_the_known_number_of_parameters(name, num_classes, shape, params):
    assert sizes(name, num_classes, shape)[0] == params
