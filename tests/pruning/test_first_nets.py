"""The law on the paper's kinds of network: masked and shrunk networks agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from prune_jax.pruning import allocation, criteria
from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.masks import apply_mask, expand
from prune_jax.pruning.surgery import shrink


class Block(nnx.Module):
    """Basic residual block; ``shortcut`` is None, 'A' (subsample and pad) or 'B' (1x1 conv)."""

    def __init__(self, wide_in, wide, stride, shortcut, rngs):
        self.conv1 = nnx.Conv(wide_in, wide, (3, 3), strides=stride, use_bias=False, rngs=rngs)
        self.bn1 = nnx.BatchNorm(wide, use_running_average=True, rngs=rngs)
        self.conv2 = nnx.Conv(wide, wide, (3, 3), use_bias=False, rngs=rngs)
        self.bn2 = nnx.BatchNorm(wide, use_running_average=True, rngs=rngs)
        self.stride, self.shortcut = stride, shortcut
        if shortcut == "B":
            self.down = nnx.Conv(wide_in, wide, (1, 1), strides=stride, use_bias=False, rngs=rngs)
            self.down_bn = nnx.BatchNorm(wide, use_running_average=True, rngs=rngs)

    def __call__(self, x):
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.shortcut == "A":
            more = y.shape[-1] - x.shape[-1]
            x = jnp.pad(
                x[:, :: self.stride, :: self.stride], ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2))
            )
        elif self.shortcut == "B":
            x = self.down_bn(self.down(x))
        return nnx.relu(x + y)


class ResNet(nnx.Module):
    def __init__(self, shortcut, rngs):
        self.stem = nnx.Conv(3, 4, (3, 3), use_bias=False, rngs=rngs)
        self.bn = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.blocks = nnx.List([Block(4, 4, 1, None, rngs), Block(4, 8, 2, shortcut, rngs)])
        self.fc = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((1, 2)))


class LeNet(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(4, 6, (3, 3), rngs=rngs)
        self.fc1 = nnx.Linear(6 * 4, 7, rngs=rngs)
        self.fc2 = nnx.Linear(7, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.sigmoid(self.conv1(x)), (2, 2), (2, 2))
        x = nnx.avg_pool(nnx.sigmoid(self.conv2(x)), (2, 2), (2, 2))
        return self.fc2(nnx.sigmoid(self.fc1(x.reshape(x.shape[0], -1))))


NETS = {
    "lenet": (lambda rngs: LeNet(rngs), (2, 8, 8, 1)),
    "resnet-A": (lambda rngs: ResNet("A", rngs), (2, 8, 8, 3)),
    "resnet-B": (lambda rngs: ResNet("B", rngs), (2, 8, 8, 3)),
}


def functional(make):
    graph, params, stats = nnx.split(make(nnx.Rngs(0)), nnx.Param, nnx.BatchStat)
    variables = {"params": nnx.to_pure_dict(params), "batch_stats": nnx.to_pure_dict(stats)}
    keys = iter(jax.random.split(jax.random.key(3), len(jax.tree.leaves(variables))))
    variables = jax.tree.map(lambda leaf: jax.random.uniform(next(keys), leaf.shape, minval=0.1), variables)

    def apply(variables, x):
        return nnx.merge(graph, variables["params"], variables["batch_stats"])(x)

    return apply, variables


@pytest.mark.parametrize("name", NETS)
def test_masked_network_equals_the_shrunk_one(name):
    make, shape = NETS[name]
    apply, variables = functional(make)
    x = jax.random.normal(jax.random.key(1), shape)
    groups = find_groups(apply, variables, x)
    patterns = ("*conv1", "fc1") if name == "lenet" else ("*conv1",)
    keep = allocation.uniform(groups, criteria.l1(criteria.Evidence(variables, groups)), 0.5, patterns)
    masked = apply(apply_mask(variables, expand(variables, groups, keep)), x)
    small = apply(shrink(variables, groups, keep), x)
    np.testing.assert_allclose(masked, small, rtol=2e-5)  # float32 sums in another order
    assert not np.allclose(masked, apply(variables, x), rtol=1e-3)


def test_flatten_maps_a_channel_to_all_its_positions():
    apply, variables = functional(NETS["lenet"][0])
    groups = {g.name: g for g in find_groups(apply, variables, jnp.zeros((1, 8, 8, 1)))}
    reader = next(s for s in groups["conv2"].members if s.path == "params/fc1/kernel")
    np.testing.assert_array_equal(reader.index, np.tile(np.arange(6), 4))  # NHWC: c runs fastest


def test_names_and_order_follow_the_network():
    apply, variables = functional(NETS["resnet-B"][0])
    groups = find_groups(apply, variables, jnp.zeros((1, 8, 8, 3)))
    names = [g.name for g in groups]
    assert names == ["stem/kernel:2", "stem", "blocks/0/conv1", "blocks/1/conv1", "blocks/1/conv2", "fc"]
    assert [g.size for g in groups] == [3, 4, 4, 8, 8, 5]
    assert [g.frozen is None for g in groups] == [False, True, True, True, True, False]
    assert "network input" in groups[0].frozen
    assert "network output" in groups[-1].frozen
