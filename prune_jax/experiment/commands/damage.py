"""What ``python -m prune_jax sensitivity`` measures: accuracy and loss, one group pruned at a time."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from prune_jax import nearest
from prune_jax.experiment import networks, twins
from prune_jax.experiment.chain import restore
from prune_jax.experiment.commands import spectrum
from prune_jax.experiment.networks import StageNetwork
from prune_jax.experiment.training.judging import judged
from prune_jax.pruning import allocation
from prune_jax.pruning.criteria.criterion import unfit
from prune_jax.pruning.criteria.table import CRITERIA, channel_scores, weight_scores
from prune_jax.pruning.evidence import Evidence
from prune_jax.pruning.granularity import cuts_channels
from prune_jax.pruning.layouts import unstructured
from prune_jax.pruning.sensitivity import Sensitivity, sensitivity, without_channels, without_weights

UNITS: Mapping[str, str] = MappingProxyType(
    {"filter": "group of channels", "unstructured": "layer's weights"}
)


def refuse_criterion(name: str, granularity: str) -> None:
    """Raise ValueError for an unknown criterion, one that needs data, and one of channels for single weights."""
    criterion = CRITERIA.get(name)
    if criterion is None:
        raise ValueError(nearest.unknown("--criterion", name, CRITERIA))
    fits = [
        other
        for other, each in CRITERIA.items()
        if not each.needs - {"key"} and (each.unit == "weight" or cuts_channels(granularity))
    ]
    if name not in fits:
        why = (
            f"needs {', '.join(sorted(criterion.needs))}" if criterion.needs - {"key"} else "scores channels"
        )
        raise ValueError(
            f"--criterion={name} {why}, which a finished stage with --granularity={granularity} doesn't have; choose "
            f"one of {', '.join(fits)}"
        )


def loaded(root: Path, stage_id: str) -> StageNetwork:
    """The network of a finished stage. Raises ValueError where it isn't finite, or holds no weights."""
    network = restore.load(spectrum.reading(root), stage_id)
    spectrum.refuse_not_finite(network.variables, stage_id)
    return network


def chosen(
    network: StageNetwork, granularity: str, patterns: Sequence[str], criterion: str
) -> tuple[list[str], list[str]]:
    """Names of the groups or layers that are measured, and texts about those that can't be. Raises ValueError."""
    wanted = tuple(patterns) or ("*",)
    if not cuts_channels(granularity):
        return list(unstructured.chosen(network.variables["params"], wanted)), []
    groups = allocation.chosen(networks.groups_now(network.model, network.keep), wanted)
    odd = unfit(CRITERIA[criterion], groups)
    if odd is not None:
        raise ValueError(
            f"--criterion={criterion} can't score {odd[0]} of {network.model.name}: {odd[1]}; name others by "
            "--pattern, or choose l1"
        )
    out = [f"{group.name}, {group.unmaskable}" for group in groups if not group.maskable]
    return [group.name for group in groups if group.maskable and group.size > 1], out


def measured(
    network: StageNetwork,
    names: Sequence[str],
    args: argparse.Namespace,
    ratios: Sequence[float],
    images: jax.Array,
    labels: jax.Array,
) -> Sensitivity:
    """Accuracy (percent), of a text bits per byte, and loss (nats) ``(N, R, 2)`` over these test examples."""
    apply = twins.network_of(network).apply

    @jax.jit
    def sums(variables: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = apply(variables, x).astype(jnp.float32)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return jnp.stack([judged(network.data, logits, y).sum(), losses.reshape(len(y), -1).mean(-1).sum()])

    def both(variables: Any) -> np.ndarray:
        starts = range(0, len(images), args.batch)
        parts = [(images[i : i + args.batch], labels[i : i + args.batch]) for i in starts]
        return np.sum([np.asarray(sums(variables, *part), np.float64) for part in parts], axis=0) / len(
            images
        )

    # Once on the device: what a group changes is all that is copied later.
    key, variables = jax.random.key(0), jax.device_put(network.variables)
    if not cuts_channels(args.granularity):
        evidence = Evidence(variables, key=key)
        without = without_weights(variables, weight_scores(CRITERIA[args.criterion], evidence))
    else:
        groups = networks.groups_now(network.model, network.keep)
        evidence = Evidence(variables, groups, key=key)
        scores = channel_scores(CRITERIA[args.criterion], evidence)
        without = without_channels(variables, groups, scores)
    return sensitivity(both, variables, without, names, ratios)
