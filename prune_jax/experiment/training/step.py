"""One training step of one replica: images to loss to gradient to update, in the precision that is asked for."""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from prune_jax import data, models
from prune_jax.experiment.devices import mesh
from prune_jax.experiment.devices.mesh import Placement
from prune_jax.experiment.specs import DataSpec
from prune_jax.experiment.training.distillation import Distilling, distilled
from prune_jax.pruning import masks
from prune_jax.pruning.mask_rules.rule import HELD, MaskRule, MaskState
from prune_jax.pruning.mask_rules.step import Trained, seen, take_step

PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
REMATS = ("none", "elementwise")
# Folded into a step's key: what a network draws, apart from augmentation. No small number: that fold is what a split
# gives too, so that 1 would be the key of the flips.
NETWORK = zlib.crc32(b"network")
MASK = zlib.crc32(b"mask rule")  # the same, of what a mask rule draws
KEPT = ("conv_general_dilated", "dot_general")  # what 'elementwise' does not compute twice


class TrainState(NamedTuple):
    """What training changes, and the mask that it holds: pytrees. With R replicas every leaf has an axis of R first.

    Attributes:
        params: the weights.
        batch_stats: statistics of norms.
        opt_state: the optimiser's.
        mask: like ``params``, bools of each leaf's rank. An axis along which all entries are alike has size 1. Where
            the mask is False, a parameter is exactly 0 at every step, unless a mask rule says otherwise. None: no mask.
        ema: the running mean of ``params``. None: not in use.
        memory: what a mask rule keeps beside its mask. None: not in use.
    """

    params: Any
    batch_stats: Any
    opt_state: Any
    mask: Any = None
    ema: Any = None
    memory: Any = None


class StepPlan(NamedTuple):
    """How a step computes its gradient.

    Attributes:
        precision: 'bfloat16' holds for activations, and for weights as they are used. Parameters, batch statistics,
            logits, loss and gradients stay float32.
        remat: 'elementwise' keeps the results of convolutions and matrix products alone for the backward pass, and
            computes norms and activations again.
        accumulate: so many microbatches make a batch, one after another. Batch norm normalises each by its own
            statistics and moves the running ones once for each, as in PyTorch.
        unroll: whether the loop over microbatches is written out, for backends where loops are slow.
        label_smoothing: the share s of a label that is spread over the K classes, as 1 - s + s/K and s/K. The loss
            that is returned is of those.
        ema: d of ema = d * ema + (1 - d) * params after each step, from the initial parameters on. 0: off.
    """

    precision: str = "float32"
    remat: str = "none"
    accumulate: int = 1
    unroll: bool = False
    label_smoothing: float = 0.0
    ema: float = 0.0


def make_step(
    network: models.Network,
    optimizer: optax.GradientTransformationExtraArgs,
    spec: DataSpec,
    plan: StepPlan,
    place: Placement,
    rule: MaskRule = HELD,
    distilling: Distilling | None = None,
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """``step(state, images, labels, lr, key, turn, teacher) -> (state, mean loss)`` on uint8 images and int32 labels.

    ``turn`` is that of ``rule``, where it has turns. ``teacher`` are the variables of the network of ``distilling``.
    """
    value_and_grad = _gradient(network, spec, plan, place, distilling)

    def step(
        state: TrainState,
        images: jax.Array,
        labels: jax.Array,
        lr: jax.Array,
        key: jax.Array,
        turn: jax.Array | None = None,
        teacher: Any = None,
    ) -> tuple[TrainState, jax.Array]:
        images = data.augment(key, images, crop_pad=spec.crop_pad, flip=spec.flip)
        images, labels = mesh.batch(place, (images, labels))
        drawn = jax.random.fold_in(key, NETWORK)
        shown = seen(rule, state.params, state.mask)
        wanted = _targets(distilling, spec, place, teacher, images)
        (loss, stats), gradients = value_and_grad(shown, state.batch_stats, images, labels, drawn, wanted)
        opt_state = state.opt_state._replace(hyperparams={"learning_rate": lr})
        before = Trained(state.params, opt_state, MaskState(state.mask, state.memory))
        after = take_step(rule, optimizer, before, gradients, turn, jax.random.fold_in(key, MASK))
        ema = averaged(state.ema, after.params, plan.ema)
        new = TrainState(after.params, stats, after.opt_state, after.state.mask, ema, after.state.memory)
        return mesh.parameters(place, new), loss

    return step


def _targets(
    distilling: Distilling | None, spec: DataSpec, place: Placement, teacher: Any, images: jax.Array
) -> jax.Array | None:
    """The teacher's logits of a batch, as it computes them when it is evaluated. None without a teacher."""
    if distilling is None:
        return None
    return distilling.apply(mesh.whole(place, teacher), floats(spec, images))


def masked(tree: Any, mask: Any) -> Any:
    """A tree like ``params`` with exact zeros where ``mask`` is False. The tree itself without a mask."""
    return tree if mask is None else masks.apply_mask(tree, mask)


def averaged(ema: Any, params: Any, decay: float) -> Any:
    """The running mean of the parameters one step on. None where there is none."""
    if ema is None:
        return None
    return jax.tree.map(lambda mean, leaf: decay * mean + (1.0 - decay) * leaf, ema, params)


def variables_of(state: TrainState) -> dict[str, Any]:
    """What is evaluated and kept of a state: its parameters, or their running mean, masked, and batch statistics."""
    params = masked(state.params if state.ema is None else state.ema, state.mask)
    return {"params": params, "batch_stats": state.batch_stats}


def floats(spec: DataSpec, images: jax.Array) -> jax.Array:
    """Images as a network takes them: float32, normalised per channel. Before that uint8 ones are scaled to 0..1.

    A text's bytes are tokens and stay as they are.
    """
    if spec.window:
        return images
    return data.normalize(images, spec.mean, spec.std)


def gathered(place: Placement, params: Any, batch_stats: Any) -> dict[str, Any]:
    """Variables complete on every device, as a forward pass needs them."""
    return mesh.whole(place, {"params": params, "batch_stats": batch_stats})


def _gradient(
    network: models.Network,
    spec: DataSpec,
    plan: StepPlan,
    place: Placement,
    distilling: Distilling | None,
) -> Callable[..., tuple[tuple[jax.Array, Any], Any]]:
    """``(params, batch_stats, images, labels, key, teacher's logits or None) -> ((loss, new batch_stats), gradient)``.

    All are means over the batch.
    """

    def forward(params: Any, stats: Any, x: jax.Array, key: jax.Array) -> tuple[jax.Array, Any]:
        variables = gathered(place, params, stats)
        return network.apply_train(_lowered(variables, plan.precision), x, key)

    if plan.remat == "elementwise":  # parameters that are spread are gathered again too
        forward = jax.checkpoint(forward, policy=lambda primitive, *_, **__: primitive.name in KEPT)

    def loss_of(
        params: Any,
        stats: Any,
        images: jax.Array,
        labels: jax.Array,
        key: jax.Array,
        wanted: jax.Array | None,
    ) -> tuple[jax.Array, Any]:
        x = floats(spec, images)
        x = x if spec.window else x.astype(PRECISIONS[plan.precision])
        logits, stats = forward(params, stats, x, key)
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        loss = _cross_entropy(logits, labels, plan.label_smoothing)
        if distilling is not None and wanted is not None:
            loss = distilled(loss, logits, wanted, distilling.spec)
        return loss.mean(), stats

    one_shot = jax.value_and_grad(loss_of, has_aux=True)
    return one_shot if plan.accumulate == 1 else _accumulated(one_shot, plan, place)


def _cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    if not smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    wanted = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), smoothing)
    return optax.softmax_cross_entropy(logits, wanted)


def _accumulated(
    one_shot: Callable[..., tuple[tuple[jax.Array, Any], Any]], plan: StepPlan, place: Placement
) -> Callable[..., tuple[tuple[jax.Array, Any], Any]]:
    count = plan.accumulate

    def parts(array: jax.Array) -> jax.Array:
        # Every count-th example, so that each device splits the rows that it holds already.
        return array.reshape(-1, count, *array.shape[1:]).swapaxes(0, 1)

    def total(
        params: Any,
        stats: Any,
        images: jax.Array,
        labels: jax.Array,
        key: jax.Array,
        wanted: jax.Array | None,
    ) -> tuple[tuple[jax.Array, Any], Any]:
        def add(carry: Any, each: Any) -> tuple[Any, None]:
            (stats, summed), (part, drawn, targets) = carry, each
            (loss, stats), gradient = one_shot(params, stats, *mesh.batch(place, part), drawn, targets)
            return (stats, jax.tree.map(jnp.add, summed, (loss, gradient))), None

        zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
        each_part = (
            (parts(images), parts(labels)),
            jax.random.split(key, count),
            jax.tree.map(parts, wanted),
        )
        (stats, summed), _ = jax.lax.scan(add, (stats, zero), each_part, unroll=count if plan.unroll else 1)
        loss, gradient = jax.tree.map(lambda leaf: leaf / count, summed)
        return (loss, stats), gradient

    return total


def _lowered(variables: dict[str, Any], precision: str) -> dict[str, Any]:
    """Variables as they are computed with: parameters of norms, which have statistics beside them, stay float32."""
    if precision == "float32":
        return variables
    norms = {path[:-1] for path, _ in jax.tree_util.tree_leaves_with_path(variables["batch_stats"])}

    def lower(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        return leaf if path[:-1] in norms else leaf.astype(PRECISIONS[precision])

    return {**variables, "params": jax.tree_util.tree_map_with_path(lower, variables["params"])}
