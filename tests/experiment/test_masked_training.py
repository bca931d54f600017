"""A mask in the training state: pruned weights stay exactly 0, and the others train as if those were not there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from prune_jax import models
from prune_jax.experiment import specs
from prune_jax.experiment.devices import mesh
from prune_jax.experiment.devices.strategy import Execution
from prune_jax.experiment.storage import checkpoints, folder
from prune_jax.experiment.training import trainer as training_trainer
from prune_jax.experiment.training.optimizers import sgd
from prune_jax.experiment.training.step import StepPlan, TrainState, make_step

SHAPE, CLASSES, BATCH = (3, 3, 1), 3, 8
IMAGES = specs.DataSpec("made up", (0.5,), (0.25,))
SPEC = specs.ModelSpec("mlp7_relu", SHAPE, CLASSES, (("hidden", 6), ("depth", 3)))
RECIPE = training_trainer.Recipe(IMAGES, SPEC, BATCH, 0.9, 1e-2, Execution("scan", "vmap"))


def batch(seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (BATCH, *SHAPE)).astype(np.uint8)
    return images, rng.integers(0, CLASSES, BATCH).astype(np.int32)


def variables_of(seed):
    options = dict(SPEC.options)
    module = models.create(
        SPEC.name, num_classes=CLASSES, input_shape=SHAPE, key=jax.random.key(seed), **options
    )
    return models.functional(module).variables


def random_mask(params, seed):
    """A third of every leaf's entries False."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jax.device_put(rng.random(leaf.shape) > 1 / 3), params)


def stacked(*trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def replica(tree, i):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[i], tree)


def pruned_values(params, mask):
    """All pruned entries of a tree in one vector."""
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(mask), strict=True)
    return np.concatenate([np.asarray(w)[~np.broadcast_to(m, w.shape)] for w, m in pairs])


def trained(seeds, masks, steps=3):
    """States of seeds trained together on three batches, each with a mask of its own."""
    trainer = training_trainer.make_trainer(RECIPE)
    state = trainer.init(stacked(*map(variables_of, seeds)), stacked(*masks))
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    for number in range(steps):
        state, _ = trainer.step(state, *batch(number), keys, np.float32(0.05))
    return state


def test_seeds_with_masks_of_their_own_train_together_as_each_does_alone():
    masks = [random_mask(variables_of(seed)["params"], seed) for seed in range(3)]
    together = trained(range(3), masks)
    for seed, mask in enumerate(masks):
        alone = replica(trained([seed], [mask]), 0)
        mine = replica(together, seed)
        assert not pruned_values(mine.params, mask).any()
        # float32 sums taken in another order
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), mine, alone)


def linear(calls):
    """x -> x W + b, which notes in ``calls`` each time that it is traced."""
    rng = np.random.default_rng(0)
    params = {"w": jax.device_put(rng.normal(size=(9, CLASSES)).astype(np.float32)), "b": jnp.ones(CLASSES)}

    def apply_train(variables, x, key=None):
        calls.append(x.shape)
        p = variables["params"]
        return x.reshape(len(x), -1) @ p["w"] + p["b"][None], {}

    return models.Network(
        {"params": params, "batch_stats": {}}, lambda v, x: apply_train(v, x)[0], apply_train
    )


def test_one_compilation_serves_all_masks():
    calls, optimizer = [], sgd(0.9, 1e-2)
    network = linear(calls)
    params = network.variables["params"]
    step = jax.jit(make_step(network, optimizer, IMAGES, StepPlan(), mesh.placement(mesh.APART)))
    for seed in range(3):
        state = TrainState(params, {}, optimizer.init(params), random_mask(params, seed))
        step(state, *batch(seed), jnp.float32(0.1), jax.random.key(seed))
    assert len(calls) == 1


@pytest.mark.parametrize(
    "rule",
    [
        lambda learning_rate: optax.sgd(learning_rate, 0.9, nesterov=True),
        lambda learning_rate: optax.adamw(learning_rate, weight_decay=0.1),
        lambda learning_rate: optax.lion(learning_rate, weight_decay=0.1),
        lambda learning_rate: optax.chain(optax.add_decayed_weights(0.1), optax.adam(learning_rate)),
    ],
)
def test_pruned_weights_stay_zero_whatever_the_optimiser_and_its_state_hold(rule):
    optimizer = optax.inject_hyperparams(rule)(learning_rate=0.0)
    network = linear([])
    params = network.variables["params"]
    mask = random_mask(params, 0)
    dense = jax.tree.map(lambda leaf: 3.0 * jnp.ones_like(leaf), optimizer.init(params))
    step = jax.jit(make_step(network, optimizer, IMAGES, StepPlan(), mesh.placement(mesh.APART)))
    state = TrainState(params, {}, dense, mask)  # weights not yet masked, moments as from dense training
    for number in range(4):
        state, _ = step(state, *batch(number), jnp.float32(0.1), jax.random.key(number))
        assert not pruned_values(state.params, mask).any()
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(state.params))


def softmax_gradient(w, b, images, labels):
    """Gradient of the mean cross-entropy of x W + b in float64."""
    x = (images.reshape(len(images), -1) / 255.0 - 0.5) / 0.25
    z = np.exp(x @ w + b)
    error = (z / z.sum(1, keepdims=True) - np.eye(CLASSES)[labels]) / len(x)
    return x.T @ error, error.sum(0)


def test_the_other_weights_follow_sgd_with_momentum_and_decay_on_the_masked_network():
    optimizer, network = sgd(0.9, 1e-2), linear([])
    params = network.variables["params"]
    mask = random_mask(params, 4) | {"b": jnp.ones((1,), bool)}  # size 1: nothing is pruned along that axis
    mw, w, b = (np.asarray(leaf, np.float64) for leaf in (mask["w"], params["w"], params["b"]))
    w, vw, vb = w * mw, np.zeros_like(w), np.zeros_like(b)
    step = jax.jit(make_step(network, optimizer, IMAGES, StepPlan(), mesh.placement(mesh.APART)))
    state = TrainState(params | {"w": params["w"] * mask["w"]}, {}, optimizer.init(params), mask)
    for number in range(5):
        images, labels = batch(number)
        state, _ = step(state, images, labels, jnp.float32(0.1), jax.random.key(0))
        gw, gb = softmax_gradient(w, b, images, labels)
        vw, vb = 0.9 * vw + gw + 1e-2 * w, 0.9 * vb + gb + 1e-2 * b
        w, b = (w - 0.1 * vw) * mw, b - 0.1 * vb
    # five float32 steps
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.params["b"], b, rtol=1e-4, atol=1e-6)


def test_a_new_state_is_masked_and_a_mask_of_ones_changes_no_number():
    variables = variables_of(0)
    trainer = training_trainer.make_trainer(RECIPE)
    mask = random_mask(variables["params"], 0)
    begun = trainer.init(stacked(variables), stacked(mask))
    assert not pruned_values(replica(begun.params, 0), mask).any()
    ones = jax.tree.map(lambda leaf: jnp.ones((1,) * leaf.ndim, bool), variables["params"])
    finals = []
    for mask in (stacked(ones), None):
        state = trainer.init(stacked(variables), mask)
        state, _ = trainer.step(state, *batch(), jnp.stack([jax.random.key(0)]), np.float32(0.1))
        finals.append(state)
    jax.tree.map(np.testing.assert_array_equal, finals[0].params, finals[1].params)


def test_a_checkpoint_without_the_younger_fields_is_still_read(tmp_path):
    """States that were kept as named tuples of three fields, or as dicts, are the same on disk."""
    store = folder.open_workdir(tmp_path / "w", "test")
    params = {"w": jnp.arange(6.0).reshape(1, 2, 3)}
    state = TrainState(params, {}, jax.vmap(sgd(0.9, 0.0).init)(params))
    with_mask = state._replace(mask={"w": jnp.ones((1, 2, 3), bool)})
    for step, each in enumerate((state, with_mask)):
        with checkpoints.open_partial(store, f"c{step}", 1) as kept:
            checkpoints.save(kept, 1, each, {})
            checkpoints.settle(kept)
            names = set(kept.item_metadata(1)["state"].keys())
            assert names == {k for k, v in each._asdict().items() if v is not None}
            back = checkpoints.load(kept, each)
        assert type(back) is TrainState
        assert (back.mask is None) == (each.mask is None)
        jax.tree.map(np.testing.assert_array_equal, back, each)
