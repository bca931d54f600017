"""Sensitivity against a plain loop that really cuts, equal damage by hand."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn
from flax import nnx

from prune_jax import models
from prune_jax.pruning import sensitivity as room
from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.sensitivity import (
    ratios_of_equal_damage,
    sensitivity,
    without_channels,
    without_weights,
)
from prune_jax.pruning.surgery import shrink


class Net(nnx.Module):
    """Two hidden layers, a norm with statistics of its own, a shortcut over the second."""

    def __init__(self, rngs):
        self.a, self.b = nnx.Linear(6, 8, rngs=rngs), nnx.Linear(8, 7, rngs=rngs)
        self.norm, self.c = nnx.BatchNorm(8, rngs=rngs), nnx.Linear(7, 8, rngs=rngs)
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x, train=False):
        x = jax.nn.sigmoid(self.norm(self.a(x), use_running_average=not train))
        x = x + self.c(nnx.relu(self.b(x)))
        return self.head(x)


@pytest.fixture(scope="module")
def net():
    network = models.functional(drawn(Net))
    variables, x = network.variables, np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    groups = find_groups(network.apply, variables, x)
    scores = {
        g.name: np.random.default_rng(len(g.name)).permutation(g.size) for g in groups if g.frozen is None
    }
    return network.apply, variables, x, groups, scores


@pytest.mark.slow
def test_channels_against_a_loop_that_cuts(net):
    apply, variables, x, groups, scores = net
    names, ratios, traced = [g.name for g in groups if g.frozen is None], (0.1, 0.5, 0.9), []

    @jax.jit
    def measure(given):
        traced.append(1)
        out = apply(given, x)
        return jnp.stack([out.sum(), (out**2).mean()])

    found = sensitivity(measure, variables, without_channels(variables, groups, scores), names, ratios)
    assert len(traced) == 1  # one compilation for every group and ratio
    assert found.values.shape == (len(names), 3, 2)
    for i, name in enumerate(names):
        size = len(scores[name])
        for j, ratio in enumerate(ratios):
            gone = min(int(np.ceil(ratio * size - 1e-9)), size - 1)
            keep = {name: np.sort(np.argsort(scores[name], kind="stable")[gone:])}
            out = np.asarray(apply(shrink(variables, groups, keep), x), np.float64)
            wanted = [out.sum(), (out**2).mean()]
            np.testing.assert_allclose(found.values[i, j], wanted, rtol=1e-4)  # float32, other order of sums
    whole = np.asarray(apply(variables, x), np.float64)
    np.testing.assert_allclose(found.dense, [whole.sum(), (whole**2).mean()], rtol=1e-4)


def test_weights_against_a_loop(net):
    apply, variables, x, _, _ = net
    scores = {"params/b/kernel": np.abs(variables["params"]["b"]["kernel"])}
    without = without_weights(variables, scores)
    found = sensitivity(lambda v: (apply(v, x) ** 2).mean(), variables, without, ["b"], (0.25, 1.0))
    for ratio, value in zip(found.ratios, found.values[0], strict=True):
        kernel = np.asarray(variables["params"]["b"]["kernel"]).copy()
        order = np.argsort(np.abs(kernel).reshape(-1), kind="stable")
        kernel.reshape(-1)[order[: int(np.ceil(ratio * kernel.size))]] = 0
        params = {**variables["params"], "b": {**variables["params"]["b"], "kernel": kernel}}
        wanted = float((apply({**variables, "params": params}, x) ** 2).mean())
        assert value == pytest.approx(wanted, rel=1e-5)


def test_what_no_mask_stands_for_is_refused():
    class Softmaxed(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b = nnx.Linear(4, 6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)

        def __call__(self, x):
            return self.b(jax.nn.softmax(self.a(x)))

    network = models.functional(drawn(Softmaxed))
    groups = find_groups(network.apply, network.variables, jnp.ones((1, 4)))
    without = without_channels(network.variables, groups, {"a": np.arange(6)})
    with pytest.raises(ValueError, match="zeroed channels of 'a' don't stand for pruned ones"):
        without("a", 0.5)


def test_ratios_of_equal_damage_by_hand():
    ratios = (0.2, 0.4, 0.8)
    damage = np.array([[0.1, 0.3, 0.5], [-0.1, 0.2, 0.1], [np.nan, 1.0, 1.0], [0.0, 0.0, 0.0]])
    # The second rises to 0, 0.2, 0.2. What isn't a number is infinite: that group loses nothing.
    np.testing.assert_allclose(ratios_of_equal_damage(damage, ratios, 0.0), [0, 0.2, 0, 0.8])
    np.testing.assert_allclose(ratios_of_equal_damage(damage, ratios, 0.1), [0.2, 0.3, 0, 0.8])
    np.testing.assert_allclose(ratios_of_equal_damage(damage, ratios, 0.2), [0.3, 0.8, 0, 0.8])
    np.testing.assert_allclose(ratios_of_equal_damage(damage, ratios, 0.4), [0.6, 0.8, 0, 0.8])
    np.testing.assert_allclose(ratios_of_equal_damage(damage, ratios, 9.0)[[0, 1, 3]], 0.8)
    np.testing.assert_allclose(ratios_of_equal_damage(damage, ratios, np.inf), 0.8)
    with pytest.raises(ValueError, match="ratios must rise"):
        ratios_of_equal_damage(damage, (0.4, 0.2, 0.8), 0.1)


def test_a_ratio_above_1_is_refused():
    with pytest.raises(ValueError, match=r"in \[0, 1\], not 1.5"):
        sensitivity(lambda v: 0.0, {}, lambda name, ratio: {}, ["a"], (0.5, 1.5))


def test_examples_in_docstrings():
    found = doctest.testmod(room, extraglobs={"np": np})
    assert found.attempted
    assert not found.failed
