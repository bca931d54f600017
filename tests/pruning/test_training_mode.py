"""A network cut in evaluation mode is trained on: new statistics and dropout at the small sizes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import law
import numpy as np
import optax
import pytest
from drawn import drawn
from flax import nnx

from prune_jax import find_groups, shrink, slim
from prune_jax.models import functional


class Net(nn.Module):
    features: int = 8

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(self.features, (3, 3))(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.7)(x))
        return nn.Dense(3)(x.mean((1, 2)))


X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 5, 2)), jnp.float32)
LABELS = np.arange(4) % 3
KEEP = {"Conv_0": np.array([1, 2, 6])}


def ten_steps(apply_train, variables):
    """Parameters and statistics after ten steps of SGD on one batch."""
    optimizer = optax.sgd(0.1, 0.9)

    def loss(params, stats):
        logits, new = apply_train({"params": params, "batch_stats": stats}, X)
        return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean(), new["batch_stats"]

    def step(carry, _):
        params, stats, state = carry
        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params, stats)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), stats, state), value

    start = (variables["params"], variables["batch_stats"], optimizer.init(variables["params"]))
    (params, stats, _), _ = jax.jit(lambda start: jax.lax.scan(step, start, length=10))(start)
    return {"params": params, "batch_stats": stats}


def test_a_pruned_linen_network_trains_as_the_module_built_with_its_sizes():
    dense, small = Net(), Net(features=3)
    variables = law.numbers(jax.eval_shape(dense.init, jax.random.key(1), X))
    groups = find_groups(dense.apply, variables, X)
    cut = shrink(variables, groups, KEEP)

    def train(v, x):
        return dense.apply(v, x, train=True, mutable=["batch_stats"])

    def built(v, x):
        return small.apply(v, x, train=True, mutable=["batch_stats"])

    ours, theirs = ten_steps(slim(train, variables, groups, KEEP, X), cut), ten_steps(built, cut)
    # 1e-5: sums over three channels in another order, ten steps long
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)


def test_the_training_mode_has_the_groups_of_evaluation():
    dense = Net()
    variables = jax.eval_shape(dense.init, jax.random.key(1), X)
    found = find_groups(lambda v, x: dense.apply(v, x, train=True, mutable=["batch_stats"]), variables, X)
    wanted = find_groups(dense.apply, variables, X)
    assert [(g.name, g.size, g.frozen) for g in found] == [(g.name, g.size, g.frozen) for g in wanted]


def test_outputs_that_only_look_like_a_leaf_stay_frozen():
    params = {"a": {"w": jnp.ones((3, 8))}, "b": {"w": jnp.ones((8, 2))}, "s": {"mean": jnp.ones((4,))}}

    def apply(p, x):
        h = jax.nn.relu(x @ p["a"]["w"])
        return h @ p["b"]["w"], {"mean": h.mean(0)}  # 8 numbers, where the leaf 's/mean' has 4

    (group,) = [g for g in find_groups(apply, params, jnp.ones((4, 3))) if g.size == 8]
    assert group.frozen == "network output"


class Dropped(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(4, 12, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(12, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(nnx.relu(self.first(x))))


def test_dropout_draws_at_the_dense_shape_and_keeps_the_channels_own_numbers():
    network = functional(drawn(Dropped))
    x, key = np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32), jax.random.key(3)
    groups = find_groups(network.apply, network.variables, x)
    keep = {"first": [0, 3, 4, 11]}
    cut = shrink(network.variables, groups, keep)
    small, _ = slim(network.apply_train, network.variables, groups, keep, x, key)(cut, x, key)

    dead = np.setdiff1d(np.arange(12), keep["first"])
    masked = jax.tree.map(jnp.asarray, network.variables)
    masked["params"]["last"]["kernel"] = masked["params"]["last"]["kernel"].at[dead].set(0.0)
    whole, _ = jax.jit(network.apply_train)(masked, x, key)
    np.testing.assert_allclose(small, whole, rtol=1e-5, atol=1e-6)
    assert not np.allclose(small, network.apply(masked, x))  # something was dropped


def test_another_functions_groups_are_refused_in_one_line():
    params = {"a": jnp.ones((3, 8)), "b": jnp.ones((8, 2))}
    x = jnp.ones((4, 3))
    groups = find_groups(lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"], params, x)

    def summed(p, x):  # here the first four channels go with the last four
        h = jax.nn.relu(x @ p["a"])
        return jnp.tile(h[:, :4] + h[:, 4:], (1, 2)) @ p["b"]

    with pytest.raises(ValueError, match="other indices of axis") as error:
        slim(summed, params, groups, {"a": [0, 1, 2, 3, 4]}, x)
    assert "\n" not in str(error.value)
