"""The network that a finished stage holds, rebuilt from what the stage and those before it say of themselves."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from prune_jax.data import ImageRecipe
from prune_jax.experiment import networks
from prune_jax.experiment import store as disk
from prune_jax.experiment.specs import DataSpec, ModelSpec
from prune_jax.experiment.train import network_of
from prune_jax.pruning import surgery

Keep = dict[str, np.ndarray]


class StageNetwork(NamedTuple):
    """A stage's variables, the dense network that they belong to or were cut from, and its data."""

    model: ModelSpec
    data: DataSpec
    variables: Any


def load(store: disk.Store, stage_id: str, *, before_recovery: bool = False) -> StageNetwork:
    """The network after stage ``stage_id``; ``before_recovery``: as a sparsify stage had just cut it.

    Raises CheckpointError when the stage, or one before it, is not finished or can't be read.
    """
    lineage = [_about(store, stage_id)]
    while lineage[-1].get("parent"):
        lineage.append(_about(store, lineage[-1]["parent"]))
    head = lineage[-1]["spec"]
    model, data = ModelSpec(**_frozen(head["model"])), _data_of(head["data"])
    keep = next((keep_of(about) for about in lineage if "keep" in about), None)
    if before_recovery:
        dense = disk.load_variables(store, lineage[0]["parent"], _like(model, head, None))
        return StageNetwork(model, data, surgery.shrink(dense, networks.groups_of(model), keep or {}))
    return StageNetwork(model, data, disk.load_variables(store, stage_id, _like(model, head, keep)))


def evaluated(network: StageNetwork) -> jax.tree_util.Partial:
    """Floats ``(n, h, w, c)``, normalised, to logits ``(n, K)`` in evaluation mode; equal networks compile once."""
    return jax.tree_util.Partial(_apply_of(network.model), network.variables)


def keep_of(about: dict[str, Any]) -> Keep:
    """The keep of a finished sparsify stage, read from its ``stage.json``."""
    return {name: np.asarray(kept, np.int64) for name, kept in about["keep"].items()}


@functools.cache  # a memo: one function for one network, so that what JAX compiled for it is found again
def _apply_of(model: ModelSpec) -> Callable[..., Any]:
    return network_of(model).apply


def _like(model: ModelSpec, head: dict[str, Any], keep: Keep | None) -> Any:
    """Abstract variables: the dense ones, those that ``keep`` leaves, or a scratch stage's small ones."""
    widths = networks.widths_of(model, _frozen(head["ratios"])) if "ratios" in head else None
    dense = network_of(model, widths).variables
    return dense if keep is None else surgery.shrink(dense, networks.groups_of(model), keep)


def _data_of(told: dict[str, Any]) -> DataSpec:
    fields = _frozen(told)
    recipe = fields.get("recipe")
    return DataSpec(**fields | {"recipe": recipe and ImageRecipe(**recipe)})


def _about(store: disk.Store, stage_id: str) -> dict[str, Any]:
    about = disk.read_stage(store, stage_id)
    if about is None:
        raise disk.CheckpointError(f"stage {stage_id} is not finished under {store.root / 'stages'}")
    return about


def _frozen(value: Any) -> Any:
    """JSON's lists as the tuples that specs hold; the outermost object stays one."""
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
