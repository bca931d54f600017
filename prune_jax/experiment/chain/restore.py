"""The network that a finished stage holds, rebuilt from what the stage and those before it say of themselves."""

from typing import Any

import jax
import numpy as np

from prune_jax.data import ImageRecipe
from prune_jax.experiment import depth, networks
from prune_jax.experiment.networks import StageNetwork, network_of
from prune_jax.experiment.own.network import first
from prune_jax.experiment.specs import DataSpec, ModelSpec
from prune_jax.experiment.storage import stages as disk
from prune_jax.pruning import masks, surgery
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.keep import Keep, relative


def load(store: disk.Store, stage_id: str, *, before_recovery: bool = False) -> StageNetwork:
    """The network after stage ``stage_id``. ``before_recovery``: as a sparsify stage had just cut it.

    Raises CheckpointError when the stage, or one before it, is not finished or can't be read.
    """
    lineage = lineage_of(store, stage_id)
    head = lineage[-1][1]["spec"]
    whole, data = ModelSpec(**_frozen(head["model"])), _data_of(head["data"])
    kept = keep_after(lineage)
    model, keep = depth.at_depth(whole, kept)
    after = StageNetwork(model, data, None, keep, mask_after(store, model, lineage), depth.only(kept))
    if not before_recovery:
        return after._replace(variables=disk.load_variables(store, stage_id, _like(model, keep)))
    if "cut" in lineage[0][1]:  # weights were changed as well as cut
        cut = disk.load_cut(store, stage_id, _like(model, keep), lineage[0][1]["cut"])
        return after._replace(variables=cut)
    return after._replace(variables=_cut_again(load(store, lineage[0][1]["parent"]), after))


def _cut_again(before: StageNetwork, after: StageNetwork) -> Any:
    """Variables of ``before`` as the cut left them that made the network ``after`` of it."""
    cut = depth.removed(before.variables, before.blocks, after.blocks)
    if after.keep:
        groups = networks.groups_now(after.model, before.keep)
        cut = surgery.shrink(cut, groups, relative(before.keep, after.keep))
    if after.mask is not None:
        cut = {**cut, "params": masks.apply_mask(cut["params"], after.mask)}
    return cut


Lineage = list[tuple[str, dict[str, Any]]]


def lineage_of(store: disk.Store, stage_id: str) -> Lineage:
    """Ids and ``stage.json`` of a finished stage and of those before it, the stage itself first."""
    lineage = [(stage_id, _about(store, stage_id))]
    while parent := lineage[-1][1].get("parent"):
        lineage.append((parent, _about(store, parent)))
    return lineage


def widths_after(lineage: Lineage) -> dict[str, int]:
    """How many channels a finished stage's network has in each group that was cut. Other groups are whole."""
    return {name: len(kept) for name, kept in keep_after(lineage).items()}


def masked_params(lineage: Lineage) -> int:
    """How many parameters a finished stage's mask holds at zero. 0 without a mask."""
    return next((about["masked"] for _, about in lineage if "mask" in about), 0)


def keep_after(lineage: Lineage) -> Keep:
    """Channels of the dense network that a finished stage's network has, in each group that was cut, and its blocks.

    The newest stage that cut says it. A scratch stage's network has the first ones, as many as it was made with.
    """
    kept = next((keep_of(about) for _, about in lineage if "keep" in about), None)
    head = lineage[-1][1]["spec"]
    if kept is not None or "ratios" not in head:
        return kept or {}
    widths = networks.widths_of(
        ModelSpec(**_frozen(head["model"])), _frozen(head["ratios"]), head.get("round_to", 1)
    )
    return first(widths)


def mask_after(store: disk.Store, model: ModelSpec, lineage: Lineage) -> Any:
    """The mask that a finished stage's network is under, or None."""
    stage_id, shapes = next(((i, about["mask"]) for i, about in lineage if "mask" in about), ("", None))
    if shapes is None:
        return None
    params = networks.network_of(model).variables["params"]
    like = [np.zeros(shapes[path], bool) for path, _ in leaf_paths(params)]
    return disk.load_mask(store, stage_id, jax.tree.unflatten(jax.tree.structure(params), like))


def keep_of(about: dict[str, Any]) -> Keep:
    """The keep of a finished sparsify stage, read from its ``stage.json``."""
    return {name: np.asarray(kept, np.int64) for name, kept in about["keep"].items()}


def _like(model: ModelSpec, keep: Keep) -> Any:
    """Abstract variables: those that ``keep`` leaves of the dense ones."""
    dense = network_of(model).variables
    return surgery.shrink(dense, networks.groups_of(model), keep) if keep else dense


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
    """JSON's lists as the tuples that specs hold. The outermost object stays one."""
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
