"""What a network is judged by on examples, and what its Jacobian is taken of: of images, and of a text's windows."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from prune_jax import fairness, models
from prune_jax.experiment.specs import DataSpec
from prune_jax.experiment.training.step import floats


def metric_of(spec: DataSpec) -> fairness.Metric:
    """What ``judged`` measures."""
    return fairness.METRICS["bits per byte" if spec.window else "top-1 accuracy"]


def judged(spec: DataSpec, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Each example's part of the metric, (n,): the mean over examples is the metric.

    Images: 100 where the class is right, so that the mean is accuracy in percent. A text's windows: bits per byte, the
    mean over positions of -log2 of the probability that the byte which follows was given.
    """
    if not spec.window:
        return 100.0 * (jnp.argmax(logits, -1) == labels)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
    return nats.mean(-1) / math.log(2)


def jacobian_of(
    network: models.Network, spec: DataSpec, variables: Any, images: jax.Array
) -> tuple[Partial, jax.Array]:
    """A function and its inputs, of which the Jacobian is measured.

    Of images, logits with respect to pixels. Of a text, the logits of the last position with respect to the embeddings
    of the whole window.
    """
    if not spec.window:
        return Partial(network.apply, variables), floats(spec, images)
    if network.embedded is None or network.last_logits is None:
        raise ValueError(
            "the Jacobian of a language model is of its embeddings: give it the methods embedded(tokens) and "
            "last_logits(embeddings), or set measure.jsv=False"
        )
    return Partial(network.last_logits, variables), network.embedded(variables, images)
