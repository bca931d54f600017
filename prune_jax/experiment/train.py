"""Training state, training step, and an epoch in each of the ways that ``execution`` knows."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from prune_jax import data, models, trainability
from prune_jax.experiment import replicas
from prune_jax.experiment.execution import Execution
from prune_jax.experiment.specs import DataSpec, ModelSpec


class TrainState(NamedTuple):
    """What training changes. Plain pytrees; with R replicas every leaf has a leading axis of R."""

    params: Any
    batch_stats: Any
    opt_state: Any


class DeviceData(NamedTuple):
    """The data set on the device: uint8 images ``(n, h, w, c)``, int32 labels ``(n,)``."""

    train_images: jax.Array
    train_labels: jax.Array
    test_images: jax.Array
    test_labels: jax.Array


class Recipe(NamedTuple):
    """All that a compiled trainer depends on; learning rates, weights and data are its arguments."""

    data: DataSpec
    model: ModelSpec
    batch_size: int
    momentum: float
    weight_decay: float
    execution: Execution


class Trainer(NamedTuple):
    """Compiled functions over R replicas (leading axis of states, keys and results; data are shared).

    init(variables) -> TrainState with a fresh optimiser.
    epoch(state, data, keys, lrs) -> (state, mean train loss (R,)); lrs: (steps,), state is donated.
    accuracy(state, data) -> test accuracy in percent (R,).
    jsv(state, images) -> each example's Jacobian singular values (R, n, r), of n uint8 images.
    """

    init: Callable[[Any], TrainState]
    epoch: Callable[[TrainState, DeviceData, jax.Array, jax.Array], tuple[TrainState, jax.Array]]
    accuracy: Callable[[TrainState, DeviceData], jax.Array]
    jsv: Callable[[TrainState, jax.Array], jax.Array]


def to_device(dataset: data.Dataset) -> DeviceData:
    """Both splits, copied to the default device once."""
    return DeviceData(*jax.device_put((*dataset.train, *dataset.test)))


def sgd(momentum: float, weight_decay: float) -> optax.GradientTransformationExtraArgs:
    """SGD with momentum and L2 weight decay on every parameter, its learning rate part of the state.

    Decay is added to the gradient before momentum, as PyTorch's SGD does, which the paper's numbers use.
    """

    def rule(learning_rate: Any) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum or None)
        )

    return optax.inject_hyperparams(rule)(learning_rate=0.0)


@functools.cache  # a memo of a pure function: one compiled trainer serves every run with the same recipe
def make_trainer(recipe: Recipe, batched_eval: int = 1000) -> Trainer:
    """The compiled functions of one recipe; shapes (so pruned widths) are read off their arguments."""
    network = models.functional(abstract_model(recipe.model))
    optimizer = sgd(recipe.momentum, recipe.weight_decay)
    step = functools.partial(_step, network, optimizer, recipe)
    lift = replicas.together if recipe.execution.replicas == "vmap" else replicas.alone

    def init(variables: Any) -> TrainState:
        params = variables["params"]
        return TrainState(params, variables["batch_stats"], optimizer.init(params))

    def count_correct(state: TrainState, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits = network.apply(_variables(state), _floats(recipe.data, images))
        return jnp.sum(jnp.argmax(logits, -1) == labels)

    def jsv(state: TrainState, images: jax.Array) -> jax.Array:
        return trainability.jacobian_singular_values(
            lambda x: network.apply(_variables(state), x), _floats(recipe.data, images)
        )

    correct = jax.jit(lift(count_correct, (0, None, None)))

    def accuracy(state: TrainState, on: DeviceData) -> jax.Array:
        total = len(on.test_labels)
        parts = [
            correct(state, on.test_images[i : i + batched_eval], on.test_labels[i : i + batched_eval])
            for i in range(0, total, batched_eval)
        ]
        return 100.0 * sum(parts) / total

    run_epoch = (
        _scanned(step, lift, recipe) if recipe.execution.epoch == "scan" else _stepped(step, lift, recipe)
    )
    return Trainer(jax.jit(lift(init, (0,))), run_epoch, accuracy, jax.jit(lift(jsv, (0, None))))


def abstract_model(spec: ModelSpec, widths: dict[str, int] | None = None) -> Any:
    """The model of a spec without arrays: shapes and structure only."""
    return models.abstract(
        spec.name,
        num_classes=spec.num_classes,
        input_shape=spec.input_shape,
        widths=widths,
        **dict(spec.options),
    )


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Full batches in an epoch; what is left over is dropped and, reshuffled, used in a later epoch."""
    return examples // batch_size


def _variables(state: TrainState) -> dict[str, Any]:
    return {"params": state.params, "batch_stats": state.batch_stats}


def _floats(spec: DataSpec, images: jax.Array) -> jax.Array:
    return data.normalize(images, spec.mean, spec.std)


def _step(
    network: models.Network,
    optimizer: optax.GradientTransformationExtraArgs,
    recipe: Recipe,
    state: TrainState,
    on: DeviceData,
    rows: jax.Array,
    lr: jax.Array,
    key: jax.Array,
) -> tuple[TrainState, jax.Array]:
    """One SGD step on the training examples ``rows``; returns the new state and the mean loss."""
    drawn = on.train_images.at[rows].get(mode="clip")  # rows lie inside: the default's checks cost time
    images = data.augment(key, drawn, crop_pad=recipe.data.crop_pad, flip=recipe.data.flip)
    x, labels = _floats(recipe.data, images), on.train_labels.at[rows].get(mode="clip")

    def loss_of(params: Any) -> tuple[jax.Array, Any]:
        logits, stats = network.apply_train({"params": params, "batch_stats": state.batch_stats}, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), stats

    (loss, stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    opt_state = state.opt_state._replace(hyperparams={"learning_rate": lr})
    updates, opt_state = optimizer.update(gradients, opt_state, state.params)
    return TrainState(optax.apply_updates(state.params, updates), stats, opt_state), loss


def _order(recipe: Recipe, on: DeviceData, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """An epoch's shuffled example numbers ``(steps, batch)`` and one augmentation key a step."""
    examples = len(on.train_labels)
    steps = steps_per_epoch(examples, recipe.batch_size)
    shuffle_key, augment_key = jax.random.split(key)
    rows = jax.random.permutation(shuffle_key, examples)[: steps * recipe.batch_size]
    return rows.reshape(steps, recipe.batch_size), jax.random.split(augment_key, steps)


def _scanned(step: Callable[..., Any], lift: Callable[..., Any], recipe: Recipe) -> Callable[..., Any]:
    def epoch(
        state: TrainState, on: DeviceData, key: jax.Array, lrs: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        def body(carry: TrainState, each: Any) -> tuple[TrainState, jax.Array]:
            rows, step_key, lr = each
            return step(carry, on, rows, lr, step_key)

        state, losses = jax.lax.scan(body, state, (*_order(recipe, on, key), lrs))
        return state, jnp.mean(losses)

    return jax.jit(lift(epoch, (0, None, 0, None)), donate_argnums=0)


def _stepped(step: Callable[..., Any], lift: Callable[..., Any], recipe: Recipe) -> Callable[..., Any]:
    def one(
        state: TrainState, on: DeviceData, order: tuple[jax.Array, jax.Array], lrs: jax.Array, i: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        rows, keys = order
        return step(state, on, rows[i], lrs[i], keys[i])

    order_of = jax.jit(lift(functools.partial(_order, recipe), (None, 0)))
    one_step = jax.jit(lift(one, (0, None, 0, None, None)), donate_argnums=0)

    def epoch(
        state: TrainState, on: DeviceData, keys: jax.Array, lrs: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        order, losses = order_of(on, keys), []
        for i in range(len(lrs)):
            state, loss = one_step(state, on, order, lrs, i)
            losses.append(loss)
        return state, jnp.mean(jnp.stack(losses), axis=0)

    return epoch
