"""Costs by hand, and of pruned networks against counting the small network itself."""

import jax
import jax.numpy as jnp
import law
import numpy as np
import pytest
import zoo_linen
import zoo_nnx
from jax import lax

from prune_jax.pruning.cost import cost_of_keeps, count, flops
from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.surgery import shrink, slim


def spec(*shape):
    return jax.ShapeDtypeStruct(shape, "float32")


def conv(x, w, **options):
    options = {"window_strides": (1, 1), "padding": "SAME"} | options
    return lax.conv_general_dilated(x, w, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


BY_HAND = {
    "dense": (lambda p, x: x @ p, spec(7, 5), spec(2, 7), 2 * 7 * 5),
    "conv": (conv, spec(3, 3, 4, 6), spec(2, 8, 8, 4), 2 * 64 * 9 * 4 * 6),
    "strided": (
        lambda x, w: conv(x, w, window_strides=(2, 2)),
        spec(3, 3, 4, 6),
        spec(1, 8, 8, 4),
        16 * 9 * 4 * 6,
    ),
    "grouped": (
        lambda x, w: conv(x, w, feature_group_count=2),
        spec(3, 3, 2, 6),
        spec(1, 8, 8, 4),
        64 * 9 * 2 * 6,
    ),
    "depthwise": (
        lambda x, w: conv(x, w, feature_group_count=4),
        spec(3, 3, 1, 4),
        spec(1, 8, 8, 4),
        64 * 9 * 4,
    ),
    "transposed": (
        lambda x, w: lax.conv_transpose(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")),
        spec(2, 2, 4, 6),
        spec(1, 8, 8, 4),
        64 * 4 * 4 * 6,  # each input position meets the kernel once
    ),
    "attention": (
        lambda p, x: jnp.einsum("bqhs,bkhs->bhqk", x, x),
        spec(1),
        spec(2, 5, 3, 4),
        2 * 3 * 5 * 5 * 4,
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_macs_by_hand(name):
    function, p, x, macs = BY_HAND[name]
    apply = (lambda p, x: function(x, p)) if p.shape and len(p.shape) == 4 else function
    assert count(apply, p, x).macs == macs


def test_params_activations_and_bytes_by_hand():
    tree = {"params": {"w": spec(4, 6), "b": spec(6)}, "batch_stats": {"mean": spec(6)}}

    def apply(v, x):
        return x @ v["params"]["w"] + (v["params"]["b"] - v["batch_stats"]["mean"]).reshape(1, -1)

    cost = count(apply, tree, spec(2, 4))
    assert cost == (2 * 24, 30, 12, 4 * (24 + 6 + 6 + 8 + 12))
    assert count(apply, tree, spec(2, 4), counted=lambda path: True).params == 36


def test_conventions_by_name():
    cost = count(lambda p, x: x @ p, spec(7, 5), spec(2, 7))
    assert (flops(cost), flops(cost, "macs"), flops(cost, "2xmacs")) == (70, 70, 140)
    with pytest.raises(KeyError, match="known are macs, 2xmacs"):
        flops(cost, "gflops")


def test_loops_and_branches():
    def scanned(p, x):
        return lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, p)[0]

    assert count(scanned, spec(3, 4, 4), spec(2, 4)).macs == 3 * 2 * 16
    branched = lambda p, x: lax.cond(x.sum() > 0, lambda: x @ p, lambda: x[:, :1] @ p[:1])  # noqa: E731
    assert count(branched, spec(4, 5), spec(2, 4)).macs == 2 * 4 * 5  # the dearer branch
    with pytest.raises(ValueError, match="while loop"):
        count(lambda p, x: lax.while_loop(lambda h: h.sum() > 0, lambda h: h @ p, x), spec(4, 4), spec(2, 4))


def test_work_that_nobody_reads_costs_nothing():
    def apply(p, x):
        _ = x @ p
        return x

    assert count(apply, spec(4, 4), spec(2, 4)).macs == 0


@pytest.mark.parametrize(
    ("zoo", "name"),
    [
        (zoo_nnx, "mobilenet"),
        (zoo_nnx, "shufflenet"),
        (zoo_nnx, "unet"),
        (zoo_linen, "vit"),
        (zoo_linen, "lstm"),
    ],
    ids=lambda item: getattr(item, "__name__", item),
)
def test_cost_of_a_keep_is_the_count_of_the_small_network(zoo, name):
    with jax.enable_x64(True):
        apply, params, x = zoo.build(name)
        groups = find_groups(apply, params, x)
        price = cost_of_keeps(apply, params, x)
        assert price({}) == count(apply, params, x)
        for seed in range(2):
            keep = law.some_keep(groups, np.random.default_rng(seed))
            small = slim(apply, params, groups, keep, x)
            assert price(keep) == count(small, shrink(params, groups, keep), x)
