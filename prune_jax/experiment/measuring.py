"""What is measured after an epoch, for every replica at once."""

from typing import Any

import numpy as np

from prune_jax.experiment.specs import Measure
from prune_jax.experiment.train import DeviceData, Trainer, TrainState


def measure(
    trainer: Trainer, state: TrainState, data: DeviceData, asked: Measure, epoch: int, epochs: int
) -> dict[str, np.ndarray]:
    """``test_accuracy`` (percent) and, when it is due, ``mean_jsv``: float64 ``(R,)`` each.

    The Jacobian is measured before the first epoch, after every ``asked.jsv_every``-th and after the last.
    """
    out = {"test_accuracy": np.asarray(trainer.accuracy(state, data), np.float64).round(6)}
    if asked.jsv_examples and (epoch % asked.jsv_every == 0 or epoch == epochs):
        images = data.test_images[: asked.jsv_examples]
        out["mean_jsv"] = np.asarray(trainer.mean_jsv(state, images), np.float64)
    return out


def entries(values: dict[str, np.ndarray], **shared: Any) -> list[dict[str, Any]]:
    """One history entry per replica: its value of each measurement, and what all replicas share."""
    replicas = len(next(iter(values.values())))
    return [{**shared, **{name: float(value[i]) for name, value in values.items()}} for i in range(replicas)]
