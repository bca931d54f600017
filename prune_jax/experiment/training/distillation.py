"""Distillation: a loss towards the outputs of a teacher, beside that of the labels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from prune_jax.experiment.specs import Distillation


class Distilling(NamedTuple):
    """How a teacher's outputs enter the loss, and the teacher's function of (variables, float images)."""

    spec: Distillation
    apply: Callable[[Any, jax.Array], jax.Array]


def distilled(loss: jax.Array, logits: jax.Array, wanted: jax.Array, spec: Distillation) -> jax.Array:
    """The loss of each example under a teacher: ``(1 - w) loss + w T^2 KL(p_teacher || p_student)``.

    Both distributions are softmaxes of logits over the temperature T. The factor T^2 keeps the gradient's size, which
    falls with 1 / T^2.

    Args:
        loss: each example's loss towards its label, ``(batch,)``.
        logits: of the student, ``(batch, classes)``.
        wanted: the teacher's, of the same shape. No gradient goes through them.
        spec: weight w in [0, 1] and temperature T > 0.

    Returns:
        ``(batch,)``, in nats.

    Source: Hinton et al., arXiv 1503.02531, §2. KL takes the place of cross entropy and differs by what the student
        can't change.

    Example:
        >>> same = jnp.array([[1.0, 2.0]])
        >>> distilled(jnp.array([0.5]), same, same, Distillation(weight=0.5, temperature=4.0)).tolist()
        [0.25]
    """
    teacher = jax.nn.log_softmax(jax.lax.stop_gradient(wanted) / spec.temperature)
    student = jax.nn.log_softmax(logits / spec.temperature)
    divergence = jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)
    return (1.0 - spec.weight) * loss + spec.weight * spec.temperature**2 * divergence
