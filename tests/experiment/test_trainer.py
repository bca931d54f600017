import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from prune_jax import data, models
from prune_jax.experiment import specs
from prune_jax.experiment.devices.replicas import stacked
from prune_jax.experiment.devices.strategy import Execution
from prune_jax.experiment.training import optimizers
from prune_jax.experiment.training import trainer as training_trainer

SHAPE = (12, 12, 1)
IMAGES = specs.DataSpec("made up", (0.5,), (0.25,), crop_pad=1, flip=True)


def made_up_data(examples=24):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, examples).astype(np.int32)
    images = (60 * labels[:, None, None, None] + rng.integers(0, 90, (examples, *SHAPE))).astype(np.uint8)
    split = data.Split(images, labels)
    return training_trainer.to_device(data.Dataset("made up", split, split, 3))


def spec_of(name):
    options = {"mlp7_relu": (("hidden", 8), ("depth", 3)), "lenet5": ()}[name]
    return specs.ModelSpec(name, SHAPE, 3, options)


def trained(name, execution, replicas, epochs=2):
    """States and losses of ``replicas`` seeds after two epochs, each seed in a row of its own."""
    spec = spec_of(name)
    together = range(replicas) if execution.replicas == "vmap" else None
    groups = [list(together)] if together is not None else [[seed] for seed in range(replicas)]
    on, out = made_up_data(), []
    trainer = training_trainer.make_trainer(training_trainer.Recipe(IMAGES, spec, 8, 0.9, 1e-3, execution))
    for seeds in groups:
        made = [
            models.functional(
                models.create(
                    spec.name,
                    num_classes=3,
                    input_shape=SHAPE,
                    key=jax.random.key(seed),
                    **dict(spec.options),
                )
            ).variables
            for seed in seeds
        ]
        state = trainer.init(stacked(made))
        keys = jnp.stack([jax.random.key(100 + seed) for seed in seeds])
        for epoch in range(epochs):
            state, loss = trainer.epoch(
                state, on, jax.vmap(jax.random.fold_in, (0, None))(keys, epoch), np.full(3, 0.05, np.float32)
            )
        accuracy, jsv = trainer.accuracy(state, on), trainer.jsv(state, on.test_images[:4])
        out += [
            jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], (state, loss, accuracy, jsv))
            for i in range(len(seeds))
        ]
    return out


@pytest.mark.parametrize("name", ["mlp7_relu", pytest.param("lenet5", marks=pytest.mark.slow)])
def test_every_execution_gives_the_same_numbers(name):
    reference = trained(name, Execution("step", "loop"), 2)
    assert not np.allclose(reference[0][1], reference[1][1])
    for execution in (Execution("step", "vmap"), Execution("scan", "vmap")):
        for mine, wanted in zip(trained(name, execution, 2), reference, strict=True):
            for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(wanted), strict=True):
                # six steps of float32 in another order of summation
                np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)


def test_sgd_with_momentum_and_decay_equals_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here")
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=5), rng.normal(size=(6, 5))
    lrs = [0.1, 0.1, 0.01, 0.01, 0.3, 0.3]
    # The function behind torch.optim.SGD: a step of the class imports PyTorch's compiler, which takes seconds.
    how = {"weight_decay": 0.01, "momentum": 0.9, "dampening": 0.0, "nesterov": False, "maximize": False}
    step, weight, momentum = importlib.import_module("torch.optim.sgd").sgd, torch.tensor(start), [None]
    ours = optimizers.sgd(0.9, 0.01)
    with jax.enable_x64(True):
        mine = jnp.asarray(start)
        state = ours.init(mine)
        for gradient, lr in zip(gradients, lrs, strict=True):
            step([weight], [torch.tensor(gradient)], momentum, lr=lr, **how)
            state = state._replace(hyperparams={"learning_rate": jnp.asarray(lr)})
            updates, state = ours.update(jnp.asarray(gradient), state, mine)
            mine = optax.apply_updates(mine, updates)
        np.testing.assert_allclose(mine, weight.numpy(), rtol=1e-12)


def test_accuracy_in_batches_counts_every_test_example_once():
    spec, on = spec_of("mlp7_relu"), made_up_data()
    recipe = training_trainer.Recipe(IMAGES, spec, 8, 0.9, 0.0, Execution("scan", "vmap"))
    network = models.functional(
        models.create(
            spec.name, num_classes=3, input_shape=SHAPE, key=jax.random.key(0), **dict(spec.options)
        )
    )
    variables = stacked([network.variables])
    x = (np.asarray(on.test_images) / 255 - 0.5) / 0.25
    logits = network.apply(network.variables, jnp.asarray(x, jnp.float32))
    wanted = 100 * np.mean(np.argmax(np.asarray(logits), -1) == np.asarray(on.test_labels))
    for batch in (7, 24, 1000):
        trainer = training_trainer.make_trainer(recipe, batch)
        np.testing.assert_allclose(trainer.accuracy(trainer.init(variables), on), [wanted], rtol=1e-6)


@pytest.mark.parametrize("how", ["scan", "step"])
def test_an_epoch_visits_every_example_once_in_an_order_of_its_key(how):
    """At LR 0 the mean loss of an epoch is that of the data, each example counted once."""
    on, spec = made_up_data(), spec_of("mlp7_relu")
    plain = specs.DataSpec("made up", (0.5,), (0.25,))
    trainer = training_trainer.make_trainer(
        training_trainer.Recipe(plain, spec, 8, 0.9, 0.0, Execution(how, "vmap"))
    )
    made = models.create(
        spec.name, num_classes=3, input_shape=SHAPE, key=jax.random.key(0), **dict(spec.options)
    )
    network = models.functional(made)
    x = (np.asarray(on.train_images) / 255 - 0.5) / 0.25
    logits = np.asarray(network.apply(network.variables, jnp.asarray(x, jnp.float32)), np.float64)
    own = logits[np.arange(24), np.asarray(on.train_labels)]
    wanted = np.mean(np.log(np.exp(logits).sum(1)) - own)

    def epoch(lr, seed):
        state = trainer.init(stacked([network.variables]))
        return trainer.epoch(state, on, jax.random.key(seed)[None], np.full(3, lr, np.float32))

    for seed in (0, 1):
        np.testing.assert_allclose(epoch(0.0, seed)[1], [wanted], rtol=1e-5)  # float32 against float64
    first, again, other = (jax.tree.leaves(epoch(0.05, seed)[0].params)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other, rtol=1e-4)
