"""``config.sparsify.recovery``: what is done to the network that is left, checked before any work."""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from prune_jax.experiment import networks
from prune_jax.experiment.config.dataset import AnyDataset
from prune_jax.experiment.config.examples import gathering
from prune_jax.experiment.specs import Gathering, ModelSpec
from prune_jax.nearest import one_of
from prune_jax.pruning.recovery import VERSION

KEY = "sparsify.recovery"
NAMES = ("none", "orthp", "recalibrate", "reinit", "rescale")

GAINED = ("orthp", "rescale")


def fields_of(config: ConfigDict, model: ModelSpec, dataset: AnyDataset) -> dict[str, Any]:
    """What a spec says of the recovery. Raises ValueError naming the key, the value and what is allowed."""
    section = config.sparsify
    name = one_of(KEY, section.recovery, NAMES)
    gain = float(section.recovery_gain) if name in GAINED else 1.0
    if gain <= 0:
        raise ValueError(f"sparsify.recovery_gain is {gain}; it must be positive")
    return {
        "recovery": name,
        "recovery_gain": gain,
        "recovery_version": VERSION if name == "orthp" else 1,
        "recalibration": _batches(config, model, dataset) if name == "recalibrate" else None,
    }


def _batches(config: ConfigDict, model: ModelSpec, dataset: AnyDataset) -> Gathering:
    stats = jax.tree.leaves(networks.network_of(model).variables["batch_stats"])
    if not any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in stats):
        raise ValueError(
            f"{KEY} is 'recalibrate', and {model.name} has no batch statistics: choose another of {', '.join(NAMES)}, "
            "or a network with batch normalisation"
        )
    return gathering(config, "recalibration", dataset, f"{KEY} is 'recalibrate'")
