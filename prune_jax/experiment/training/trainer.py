"""A compiled trainer: an epoch in each of the ways that ``devices.strategy`` knows, and what is measured."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax import models, trainability
from prune_jax.experiment import depth
from prune_jax.experiment.devices import mesh as devices_mesh
from prune_jax.experiment.devices import replicas
from prune_jax.experiment.devices.mesh import APART, MeshShape, Placement
from prune_jax.experiment.devices.strategy import Execution
from prune_jax.experiment.networks import steps_per_epoch
from prune_jax.experiment.specs import DataSpec, Distillation, ModelSpec
from prune_jax.experiment.training import inputs, optimizers, penalties
from prune_jax.experiment.training.distillation import Distilling
from prune_jax.experiment.training.inputs import DeviceData, Inputs
from prune_jax.experiment.training.inputs import to_device as to_device
from prune_jax.experiment.training.judging import jacobian_of, judged
from prune_jax.experiment.training.masking import MaskPlan, rule_of
from prune_jax.experiment.training.optimizers import Rule
from prune_jax.experiment.training.penalties import Pushing
from prune_jax.experiment.training.step import StepPlan, TrainState, floats, make_step, masked, variables_of
from prune_jax.experiment.twins import Channels, network_at
from prune_jax.pruning.mask_rules.rule import HELD
from prune_jax.pruning.regularizers.penalty import is_done


class Recipe(NamedTuple):
    """All that a compiled trainer depends on. Learning rates, weights and data are its arguments.

    ``channels``: those that stay, of a network whose own code can't run at its sizes (see ``twins``).
    ``masking``: the mask rule that training is under. ``distill``: how a teacher's outputs enter the loss.
    ``pushing``: the penalty that training is under.
    """

    data: DataSpec
    model: ModelSpec
    batch_size: int
    momentum: float
    weight_decay: float
    execution: Execution
    mesh: MeshShape = APART
    plan: StepPlan = StepPlan()
    rule: Rule = Rule()
    channels: Channels = ()
    masking: MaskPlan | None = None
    distill: Distillation | None = None
    pushing: Pushing | None = None


class Trainer(NamedTuple):
    """The compiled functions that train and measure R replicas of one network.

    States, keys and results have the replicas along their first axis. All replicas share the data. ``epoch`` and
    ``step`` donate their state: the caller must not use it again.

    Attributes:
        init: ``init(variables, mask=None, memory=None)`` gives a ``TrainState`` with a fresh optimiser. Its parameters
            are masked. ``TrainState`` explains ``mask`` and ``memory``.
        epoch: ``epoch(state, data, keys, lrs, turns=None, teacher=None)`` trains one epoch. It gives the new state and
            the mean training loss (R,). ``lrs`` is (steps,), or (R, steps) where each replica has its own. ``turns``
            (steps,) are those of a mask rule. ``teacher`` holds one set of variables for each replica.
        step: ``step(state, images, labels, keys, lr, turn=None, teacher=None)`` trains on one batch. It gives the new
            state and the mean loss (R,).
        accuracy: ``accuracy(state, data)`` gives the test accuracy in percent (R,). For a text it gives bits per byte.
        jsv: ``jsv(state, images)`` gives the Jacobian singular values (R, n, r) of n uint8 images.
        ended: ``ended(state)`` tells whether the penalty's rule has ended a replica's training, bool (R,).
        recipe: what the functions were compiled from.
    """

    init: Callable[..., TrainState]
    epoch: Callable[..., tuple[TrainState, jax.Array]]
    step: Callable[..., tuple[TrainState, jax.Array]]
    accuracy: Callable[[TrainState, Inputs], jax.Array]
    jsv: Callable[[TrainState, jax.Array], jax.Array]
    ended: Callable[[TrainState], jax.Array]
    recipe: Recipe


@functools.cache  # a memo of a pure function: one compiled trainer serves every run with the same recipe
def make_trainer(recipe: Recipe, batched_eval: int = 1000) -> Trainer:
    """The compiled functions of one recipe. Shapes (so pruned widths) are read off their arguments.

    What is measured is measured in float32, whatever the step's precision. ``batched_eval`` predictions are judged at
    once.
    """
    network = network_at(recipe.model, recipe.channels)
    penalty = penalties.penalty_of(recipe.model, recipe.pushing)
    optimizer = optimizers.make(recipe.rule, recipe.momentum, recipe.weight_decay, penalty)
    place = devices_mesh.placement(recipe.mesh)
    rule = HELD if recipe.masking is None else rule_of(recipe.masking)
    distilling = Distilling(recipe.distill, _teacher(recipe)) if recipe.distill else None
    step = make_step(network, optimizer, recipe.data, recipe.plan, place, rule, distilling)
    lift = replicas.over(place, recipe.execution)

    def init(variables: Any, mask: Any, memory: Any) -> TrainState:
        params = variables["params"] if rule.between == "straight" else masked(variables["params"], mask)
        # A copy: where a state is donated, no two leaves may be one array.
        ema = jax.tree.map(jnp.copy, params) if recipe.plan.ema else None
        return TrainState(params, variables["batch_stats"], optimizer.init(params), mask, ema, memory)

    def sum_judged(
        state: TrainState, images: jax.Array, labels: jax.Array, weights: jax.Array | None
    ) -> jax.Array:
        variables = devices_mesh.whole(place, variables_of(state))
        logits = network.apply(variables, floats(recipe.data, devices_mesh.batch(place, images)))
        each = judged(recipe.data, logits, labels)
        return jnp.sum(each if weights is None else each * weights)

    def jsv(state: TrainState, images: jax.Array) -> jax.Array:
        variables = devices_mesh.whole(place, variables_of(state))
        images = devices_mesh.batch(place, images)
        return trainability.jacobian_singular_values(*jacobian_of(network, recipe.data, variables, images))

    def fed(
        state: TrainState, images: jax.Array, labels: jax.Array, key: jax.Array, lr: jax.Array, *beside: Any
    ) -> tuple[TrainState, jax.Array]:
        return step(state, images, labels, lr, key, *beside)

    total = _told(place, lift(sum_judged, (0, None, None, None)))

    def accuracy(state: TrainState, on: Inputs) -> jax.Array:
        # A text's window has as many predictions as bytes. What it makes on its way must stay in the cache.
        whole = max(1, batched_eval // max(1, recipe.data.window))
        size = whole if isinstance(on, DeviceData) else recipe.batch_size
        settled = jax.block_until_ready if _on_cores() else lambda part: part
        parts = [settled(total(state, *each)) for each in inputs.test_batches(on, recipe.data, place, size)]
        return sum(parts) / on.test_size

    fresh = jax.jit(lift(init, (0, 0, 0)))
    made = _scanned if recipe.execution.epoch == "scan" else _stepped
    one = _training(place, lift(fed, (0, None, None, 0, None, None, 0)))
    return Trainer(
        lambda variables, mask=None, memory=None: devices_mesh.put_state(
            place, fresh(variables, mask, memory)
        ),
        made(step, lift, recipe, place),
        lambda state, images, labels, keys, lr, turn=None, teacher=None: one(
            state, images, labels, keys, lr, turn, teacher
        ),
        accuracy,
        _one_by_one(network, recipe.data) if _on_cores() else _told(place, lift(jsv, (0, None))),
        _told(place, lambda state: is_done(state.opt_state)),
        recipe,
    )


def _on_cores() -> bool:
    """Whether all work is done by the CPU of this process.

    Programs that are under way there at once may wait for one another for ever, where their devices exchange numbers:
    three seeds on two devices do. XLA runs them on as many threads as there are cores (seen with jaxlib 0.10.2).
    """
    return jax.default_backend() == "cpu" and jax.process_count() == 1


def _teacher(recipe: Recipe) -> Callable[..., jax.Array]:
    """The dense network's function."""
    return network_at(depth.whole(recipe.model), ()).apply


def _one_by_one(network: models.Network, spec: DataSpec) -> Callable[[TrainState, jax.Array], Any]:
    """Singular values ``(R, n, r)`` of each replica in turn, parts of the images side by side on the cores.

    One program over replicas would be slower there, and over devices that share the cores' threads it could
    stand still: see ``trainability.cpu``.
    """

    def jsv(state: TrainState, images: jax.Array) -> np.ndarray:
        shown = jax.device_put(np.asarray(images))
        each = [jacobian_of(network, spec, variables, shown) for variables in each_variables(state)]
        return np.stack([trainability.jacobian_singular_values(*pair) for pair in each])

    return jsv


def each_variables(state: TrainState) -> list[Any]:
    """Every replica's variables on the host, without the leading axis."""
    return list(replicas.split(jax.device_get(variables_of(state))))


def _drawn(on: DeviceData, rows: jax.Array, place: Placement) -> tuple[jax.Array, jax.Array]:
    rows = devices_mesh.batch(place, rows)
    # Rows lie inside: the default's checks cost time.
    return on.train_images.at[rows].get(mode="clip"), on.train_labels.at[rows].get(mode="clip")


def _order(recipe: Recipe, on: DeviceData, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """An epoch's shuffled example numbers ``(steps, batch)`` and one augmentation key a step."""
    examples = len(on.train_labels)
    steps = steps_per_epoch(examples, recipe.batch_size)
    shuffle_key, augment_key = jax.random.split(key)
    rows = jax.random.permutation(shuffle_key, examples)[: steps * recipe.batch_size]
    return rows.reshape(steps, recipe.batch_size), jax.random.split(augment_key, steps)


def _scanned(
    step: Callable[..., Any], lift: Callable[..., Any], recipe: Recipe, place: Placement
) -> Callable[..., Any]:
    def epoch(
        state: TrainState, on: DeviceData, key: jax.Array, lrs: jax.Array, turns: Any, teacher: Any
    ) -> tuple[TrainState, jax.Array]:
        def body(carry: TrainState, each: Any) -> tuple[TrainState, jax.Array]:
            rows, step_key, lr, turn = each
            return step(carry, *_drawn(on, rows, place), lr, step_key, turn, teacher)

        state, losses = jax.lax.scan(body, state, (*_order(recipe, on, key), lrs, turns))
        return state, jnp.mean(losses)

    shared, own = (_training(place, lift(epoch, (0, None, 0, axis, None, 0))) for axis in (None, 0))

    def run(
        state: TrainState, on: DeviceData, keys: jax.Array, lrs: Any, turns: Any = None, teacher: Any = None
    ) -> tuple[TrainState, jax.Array]:
        return (shared if lrs.ndim == 1 else own)(state, on, keys, lrs, turns, teacher)

    return run


def _stepped(
    step: Callable[..., Any], lift: Callable[..., Any], recipe: Recipe, place: Placement
) -> Callable[..., Any]:
    def one(
        state: TrainState,
        on: DeviceData,
        order: tuple[jax.Array, jax.Array],
        lrs: jax.Array,
        i: jax.Array,
        turns: Any,
        teacher: Any,
    ) -> tuple[TrainState, jax.Array]:
        rows, keys = order
        turn = None if turns is None else turns[i]
        return step(state, *_drawn(on, rows[i], place), lrs[i], keys[i], turn, teacher)

    order_of = jax.jit(lift(functools.partial(_order, recipe), (None, 0)))
    shared, own = (_training(place, lift(one, (0, None, 0, axis, None, None, 0))) for axis in (None, 0))

    def epoch(
        state: TrainState, on: DeviceData, keys: jax.Array, lrs: Any, turns: Any = None, teacher: Any = None
    ) -> tuple[TrainState, jax.Array]:
        order, losses = order_of(on, keys), []
        one_step = shared if lrs.ndim == 1 else own
        for i in range(lrs.shape[-1]):
            state, loss = one_step(state, on, order, lrs, i, turns, teacher)
            losses.append(loss)
        return state, jnp.mean(jnp.stack(losses), axis=0)

    return epoch


def _training(place: Placement, function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a training function. It donates its state, and every device gets the whole loss."""

    def train(*arguments: Any) -> tuple[TrainState, jax.Array]:
        state, loss = function(*arguments)
        return state, devices_mesh.whole(place, loss)

    return jax.jit(train, donate_argnums=0)


def _told(place: Placement, function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function whose whole result every device gets, so that every process can read it."""

    def told(*arguments: Any) -> Any:
        return devices_mesh.whole(place, function(*arguments))

    return jax.jit(told)
