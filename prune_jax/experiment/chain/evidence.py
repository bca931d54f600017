"""Evidence for criteria that need data: gathered over batches of the training split.

Images are not augmented. Streamed images of any size are the exception: they are cut at random, as in training.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from prune_jax.experiment import networks
from prune_jax.experiment.networks import StageNetwork
from prune_jax.experiment.specs import DataSpec, Gathering, ModelSpec
from prune_jax.experiment.training import inputs
from prune_jax.experiment.training.cohort import member_key
from prune_jax.experiment.training.inputs import DeviceData, Inputs
from prune_jax.experiment.training.step import floats
from prune_jax.experiment.twins import Channels, channels_of, hashable, keep_of, network_at
from prune_jax.pruning.evidence import OF_GROUPS, Evidence, gatherer
from prune_jax.pruning.jaxpr.groups import Group

Batch = tuple[jax.Array, jax.Array]


def looking(
    on: Inputs,
    network: StageNetwork,
    groups: Sequence[Group],
    needs: frozenset[str],
    how: Gathering | None,
    seed: int,
    key: jax.Array,
) -> Callable[[Any], Evidence]:
    """Make a function from a network's variables to the evidence that a criterion ``needs``.

    The network runs in evaluation mode. Each call looks at the same examples.

    Args:
        on: the data. ``seed`` draws examples from the training split, each at most once.
        network: the network. The function takes its variables, or others of the same shapes.
        groups: the channels of that network. Empty where single weights are scored.
        needs: fields of ``Evidence``.
        how: batches and examples in each. None where no data are needed.
        seed: of the run's replica.
        key: for criteria that draw at random.

    Returns:
        The function. It gathers the evidence anew at each call.
    """
    channels = channels_of(network.model, network.keep)
    kept = hashable(network.keep) if groups and needs & (OF_GROUPS | {"fisher"}) else None
    gather = _compiled(network.model, channels, network.data, needs, kept)

    def look(variables: Any) -> Evidence:
        batches = () if how is None else training_batches(on, network.data, how, seed)
        return gather(variables, batches, key)._replace(groups=groups)

    return look


def training_batches(on: Inputs, spec: DataSpec, how: Gathering, seed: int) -> Iterator[Batch]:
    """Images and labels of the training split, drawn by ``seed``, each example at most once."""
    if isinstance(on, DeviceData):
        order = jax.random.permutation(member_key(seed, "evidence"), len(on.train_labels))
        for rows in order[: how.batches * how.batch_size].reshape(how.batches, how.batch_size):
            yield on.train_images[rows], on.train_labels[rows]
        return
    # Every process gathers from all examples, so that all choose the same channels.
    stream = inputs.open_part(on, spec, how.batch_size, seed=seed, train=True, whole=True)
    try:
        for _ in range(how.batches):
            images, labels, *_ = next(stream)
            yield jax.device_put(images), jax.device_put(labels)
    finally:
        stream.close()


def mean_loss(apply: Callable[[Any, Batch], jax.Array]) -> Callable[[Any, Batch], jax.Array]:
    """The mean cross-entropy (nats) of a batch, of a function that gives its logits."""

    def loss(variables: Any, batch: Batch) -> jax.Array:
        logits = apply(variables, batch).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    return loss


@functools.cache  # a memo: compiled once for all seeds whose networks have equal shapes
def _compiled(
    model: ModelSpec, channels: Channels, data: DataSpec, needs: frozenset[str], kept: Channels | None
) -> Callable[..., Evidence]:
    """The gatherer of a network. ``kept`` says which channels its groups have, or that none are looked at."""
    network = network_at(model, channels)
    groups = () if kept is None else networks.groups_now(model, keep_of(kept))

    def apply(variables: Any, batch: Batch) -> jax.Array:
        return network.apply(variables, floats(data, batch[0]))

    def flow(variables: Any) -> jax.Array:
        return network.apply(variables, jnp.ones((1, *model.input_shape)))  # config refuses it of tokens

    return gatherer(needs, loss=mean_loss(apply), apply=apply, groups=groups, flow=flow)
