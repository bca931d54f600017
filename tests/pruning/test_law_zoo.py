"""The law over third-party kinds of network, in NNX and in Linen."""

import functools

import jax
import jax.numpy as jnp
import law
import numpy as np
import pytest
import zoo_linen
import zoo_nnx
import zoo_wild

from prune_jax.pruning.coupling import analyse, find_groups
from prune_jax.pruning.surgery import shrink, slim

ALL = [(zoo, name) for zoo in (zoo_nnx, zoo_linen, zoo_wild) for name in zoo.NETS]
IDS = [f"{zoo.__name__.removeprefix('zoo_')}-{name}" for zoo, name in ALL]

# What every network must offer: prunable groups by name and size, and those that no mask can stand for.
WANTED = {
    "preact": {"stem": 8, "down": 10, "c1": 4, "c2": 6},
    "densenet": {"stem": 4, "shrinker": 5},
    "mobilenet": {"stem": 4, "expand": 8},
    "shufflenet": {"stem": 4, "g1": 2},
    "squeeze": {"conv": 6, "down": 4},
    "unet": {"a": 4, "b": 6, "up": 5, "c": 4},
    "convnext": {"stem": 8, "up": 12},
    "vit": {"patch": 8, "up": 12},
    "flat vit": {"embed": 8, "qkv": 3},
    "mixer": {"patch": 6, "t1": 7, "c1": 9},
    "groupnorm": {"stem": 4, "c1": 4},
    "lstm": {},
    "gru": {},
    "stacked": {"embed": 6, "layers/up": 5},
    "shared": {"first": 6},
    "tied": {"table/embedding:1": 6, "up": 5},
    "swin": {"patch": 8, "qkv": 2, "up": 16, "merge": 12},
    "llama": {"table": 8, "q/kernel:1": 2, "gate": 12},
    "rotary": {"embed": 8} | {f"q{k}{part}": n for k in "01" for part, n in (("", 3), (":inner", 2))},
    "gpt": {"table/embedding:1": 8, "blocks/attention/query/kernel:2": 2, "blocks/up": 16},
    "dit": {"t1": 10, "embed": 8, "attention/query/kernel:1": 2, "up": 12},
    "mamba": {"embed": 6, "b": 3},
    "perceiver": {"keys": 8, "latents:2": 8, "cross/query/kernel:1": 2},
    "pointnet": {"a": 8, "b": 6},
    "graph": {"message0": 6, "node0": 6, "message1": 6},
    "experts": {"gate": 3, "up": 6, "down": 5},
    "blurred": {"a": 4, "grouped": 3},
}
# Groups outside attention over whose channels the network normalises, and softly chosen experts.
SURGERY_ONLY = {
    "convnext": {"stem"},
    "vit": {"patch"},
    "mixer": {"patch"},
    "swin": {"patch"},
    "llama": {"table"},
    "gpt": {"table/embedding:1"},
    "dit": {"embed"},
    "perceiver": {"keys", "latents:1", "latents:2"},
    "experts": {"gate"},
    "blurred": {"grouped"},
}
SCALED_HEADS = {"vit", "gpt", "dit", "perceiver", "llama"}  # attention whose head size can be cut


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def traced(zoo, name):
    """What `zoo.build(name)` gives, and its analysis, whose groups `find_groups` shows; float64 in all of this file."""
    apply, shapes, x = zoo.build(name)
    return apply, shapes, x, analyse(apply, shapes, x)


# In the slow part: Linen networks whose NNX twin is in the fast one.
LINEN_TWINS = {(zoo_linen, name) for name in zoo_linen.NETS if name in zoo_nnx.NETS}
EACH = [pytest.param(*case, marks=[pytest.mark.slow] * (case in LINEN_TWINS)) for case in ALL]


@pytest.mark.parametrize(("zoo", "name"), EACH, ids=IDS)
def test_prunable_groups(zoo, name):
    groups = traced(zoo, name)[-1].groups
    free = {group.name: group for group in groups if group.frozen is None}
    assert WANTED[name].items() <= {g.name: g.size for g in free.values()}.items()
    # Besides those listed, only sizes inside an attention head hang on a constant (1/sqrt(d)).
    unmaskable = {g.name for g in free.values() if not g.maskable}
    inside = {n for n in unmaskable if "attention/q" in n or "cross/q" in n or n == "q/kernel:2"}
    assert unmaskable - inside == SURGERY_ONLY.get(name, set())
    assert len(inside) == (name in SCALED_HEADS)


# Computed in the slow part alone: the twins, the further networks, and those whose kinds of layers others have, too:
# ResNet-8 of the catalog and "groupnorm" those of "preact", "shufflenet" and "vit" those of "mobilenet" and "convnext",
# "densenet" those of "squeeze", "lstm" those of "gru".
COVERED = {"preact", "mobilenet", "convnext", "squeeze", "gru"}
FAST = {case for case in ALL if case[0] is not zoo_wild and case[1] not in COVERED} - LINEN_TWINS
COMPUTED = [pytest.param(*case, marks=[pytest.mark.slow] * (case not in FAST)) for case in ALL]


@pytest.mark.parametrize(("zoo", "name"), COMPUTED, ids=IDS)
def test_masked_network_equals_the_small_one(zoo, name):
    apply, shapes, x, analysis = traced(zoo, name)
    params, x = law.numbers(shapes), law.numbers(x, seed=1)
    keep = law.some_keep(analysis.groups, np.random.default_rng(2), maskable=True)
    assert keep
    law.check(apply, params, analysis.groups, keep, x, analysis=analysis)


# Networks whose code takes every size from its arguments: there the state, shrunk and merged with
# the same graph definition, is an independent definition of the small network.
FROM_SHAPES = ("preact", "densenet", "squeeze", "unet", "vit", "mixer", "shared")


@pytest.mark.parametrize("name", FROM_SHAPES)
def test_nnx_runs_as_it_is_on_the_shrunk_state(name):
    apply, shapes, x, analysis = traced(zoo_nnx, name)
    groups = analysis.groups
    params, x = law.numbers(shapes), law.numbers(x, seed=1)
    keep = law.some_keep(groups, np.random.default_rng(3))
    small = shrink(params, groups, keep)
    slimmed = slim(apply, params, groups, keep, x)
    ours, its_own = law.cheap(lambda p, x: (slimmed(p, x), apply(p, x)), small, x)
    np.testing.assert_allclose(ours, its_own, rtol=1e-9)


@pytest.mark.parametrize(("zoo", "name"), EACH, ids=IDS)
def test_removing_one_channel_of_any_group_runs(zoo, name):
    """Shapes only: nothing is computed."""
    apply, params, x, analysis = traced(zoo, name)
    dense, groups = jax.eval_shape(apply, params, x), analysis.groups
    for group in groups:
        if group.frozen is None and group.size > 1:
            keep = {group.name: np.arange(1, group.size)}
            small_apply = slim(apply, params, groups, keep, x, analysis=analysis)
            out = jax.eval_shape(small_apply, shrink(params, groups, keep), x)
            assert (out.shape, out.dtype) == (dense.shape, dense.dtype)


def test_a_linen_module_built_smaller_agrees_with_slim():
    """Layer norm's mean and attention's 1/sqrt(d) are rewritten as the constructor would have them."""
    import flax.linen as nn

    class Net(nn.Module):
        width: int
        size: int

        @nn.compact
        def __call__(self, x):
            x = nn.Dense(self.width, name="embed")(x)
            y = nn.LayerNorm(name="norm")(x)
            y = nn.MultiHeadDotProductAttention(
                num_heads=2, qkv_features=2 * self.size, out_features=self.width, name="attention"
            )(y, y)
            return nn.Dense(3, name="head")(nn.LayerNorm(name="last")(x + y))

    dense, small = Net(width=8, size=4), Net(width=5, size=3)
    x = jax.random.normal(jax.random.key(0), (2, 3, 4), jnp.float64)
    params = law.numbers(jax.eval_shape(dense.init, jax.random.key(1), x))
    groups = find_groups(dense.apply, params, x)
    keep = {
        "embed": np.array([0, 2, 3, 6, 7]),
        "attention/query/kernel:2": np.array([0, 1, 3]),
        "attention/value": np.array([1, 2, 3]),
    }
    shrunk = shrink(params, groups, keep)
    slimmed = slim(dense.apply, params, groups, keep, x)
    ours, its_own = law.cheap(lambda p, x: (slimmed(p, x), small.apply(p, x)), shrunk, x)
    np.testing.assert_allclose(ours, its_own, rtol=1e-9)
