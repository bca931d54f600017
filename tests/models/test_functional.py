"""Modules of any kind as pure functions: modes, dropout and state that is neither parameter nor statistic."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from prune_jax import models
from prune_jax.pruning import surgery
from prune_jax.pruning.coupling import find_groups

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


class Layered(nnx.Module):
    """Layers that follow nnx's modes; counts its calls, and holds a table that is no nnx.Variable."""

    def __init__(self, rngs):
        self.first = nnx.Linear(4, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.5, rngs=rngs)
        self.drops = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(2)])
        self.head = nnx.Linear(8, 3, rngs=rngs)
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))
        self.table = jnp.arange(3.0)

    def __call__(self, x):
        self.calls[...] += 1
        x = self.norm(self.first(x))
        for drop in self.drops:
            x = drop(x)
        return self.head(x) + self.table[None]


@functools.cache
def layered():
    """Taken apart, and compiled once for all tests."""
    net = models.functional(Layered(nnx.Rngs(0)))
    return net._replace(apply=jax.jit(net.apply), apply_train=jax.jit(net.apply_train))


class Told(nnx.Module):
    """Is told its mode, but does not hand it to its dropout."""

    def __init__(self, rngs):
        self.head, self.drop = nnx.Linear(4, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, train=False):
        return self.drop(self.head(x)) + (100.0 if train else 0.0)


def test_all_but_parameters_and_random_streams_is_carried_as_state():
    net = layered()
    assert set(net.variables["batch_stats"]) == {"norm", "calls", "table"}
    assert set(net.variables["params"]) == {"first", "norm", "head"}
    _, stats = net.apply_train(net.variables, X, jax.random.key(0))
    assert stats["calls"] == 1
    first = jax.tree.map(np.asarray, net.variables["params"]["first"])
    hidden = X @ first["kernel"] + first["bias"]
    np.testing.assert_allclose(stats["norm"]["mean"], 0.5 * hidden.mean(0), rtol=1e-5, atol=1e-6)


def test_dropout_is_drawn_from_the_key_alone_and_each_layer_has_its_own_draw():
    net = layered()
    train = net.apply_train
    (one, stats), (again, _), (other, _) = (train(net.variables, X, jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.01
    after, _ = train({**net.variables, "batch_stats": stats}, X, jax.random.key(1))
    np.testing.assert_array_equal(one, after)  # no stream goes on from where it was

    wide = models.functional(Wide(nnx.Rngs(0)))
    both, _ = jax.jit(wide.apply_train)(wide.variables, jnp.ones((1, 4000)), jax.random.key(0))
    shares = [float(np.mean(np.asarray(both) == value)) for value in (0.0, 4.0)]
    np.testing.assert_allclose(shares, (0.75, 0.25), atol=0.03)  # 4 standard errors; one draw twice: a half


class Wide(nnx.Module):
    def __init__(self, rngs):
        self.drops = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(2)])
        self.scale = nnx.Param(jnp.ones(()))

    def __call__(self, x):
        return self.drops[1](self.drops[0](x)) * self.scale[...]


def test_evaluation_draws_nothing_and_uses_running_statistics():
    net = layered()
    leaves = jax.tree.map(np.asarray, net.variables)
    p = leaves["params"]
    hidden = (X @ p["first"]["kernel"] + p["first"]["bias"]) / np.sqrt(
        1 + 1e-5
    )  # mean 0 and variance 1 at first
    wanted = hidden @ p["head"]["kernel"] + p["head"]["bias"] + np.arange(3)
    np.testing.assert_allclose(net.apply(net.variables, X), wanted, rtol=1e-5, atol=1e-5)


def test_a_module_that_takes_train_is_told_and_its_dropout_set():
    net = models.functional(Told(nnx.Rngs(0)))
    head = jax.tree.map(np.asarray, net.variables["params"]["head"])
    np.testing.assert_allclose(
        net.apply(net.variables, X), X @ head["kernel"] + head["bias"], rtol=1e-5, atol=1e-5
    )
    logits, _ = net.apply_train(net.variables, X, jax.random.key(0))
    assert np.isclose(logits, 100.0).any()  # dropped
    assert not np.isclose(logits, 100.0).all()


def test_the_module_is_left_as_it_is():
    module = Layered(nnx.Rngs(0))
    net = models.functional(module)
    net.apply(net.variables, X)
    net.apply_train(net.variables, X, jax.random.key(0))
    assert module.drops[0].deterministic is False
    assert module.calls[...] == 0


def test_the_cut_network_runs_in_both_modes():
    net = layered()
    groups = find_groups(net.apply, net.variables, X[:1])
    small = surgery.shrink(net.variables, groups, {"first": np.array([1, 6])})
    assert small["params"]["head"]["kernel"].shape == (2, 3)
    assert net.apply(small, X).shape == (6, 3)
    logits, stats = net.apply_train(small, X, jax.random.key(0))
    assert logits.shape == (6, 3)
    assert stats["norm"]["mean"].shape == (2,)
