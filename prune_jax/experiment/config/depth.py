"""``config.sparsify.granularity = 'depth'``: whole blocks of the network go, checked before any work."""

import math
from typing import Any

import jax
from ml_collections import ConfigDict

from prune_jax import models
from prune_jax.experiment import depth, networks
from prune_jax.experiment.config import recovery
from prune_jax.experiment.config.dataset import AnyDataset
from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.config.examples import gathering
from prune_jax.experiment.own import parts as own_parts
from prune_jax.experiment.specs import ModelSpec, Ratios, Sparsify
from prune_jax.nearest import one_of
from prune_jax.pruning.granularity import ceiling

KEY = "sparsify.granularity"
CRITERIA = ("block_influence", "skipping_loss", "random", "last")
NEED_DATA = ("block_influence", "skipping_loss")
FIXED = ("allocation", "stage_ratios", "iterations", "in_turn", "over", "round_to", "compensate")


def is_asked(section: ConfigDict) -> bool:
    """Whether ``config.sparsify`` is about blocks."""
    return section.granularity == depth.GRANULARITY


def spec_of(config: ConfigDict, model: ModelSpec, dataset: AnyDataset) -> Sparsify:
    """The stage that removes blocks. Raises ValueError naming the key, the value and what is allowed."""
    section = config.sparsify
    ratios = ratios_of(section, model)
    ((name, _),) = ratios
    criterion = one_of(f"sparsify.criterion (of {KEY} 'depth')", section.criterion, CRITERIA)
    if criterion == "block_influence" and networks.network_of(model).streams is None:
        raise ValueError(
            f"sparsify.criterion is 'block_influence', which compares what enters a block with what leaves it: give "
            f"{model.name} a method streams(x) that returns them, or choose 'skipping_loss'"
        )
    evidence = None
    if criterion in NEED_DATA:
        evidence = gathering(config, "evidence", dataset, f"sparsify.criterion is {criterion!r}, of data")
    recovered = recovery.fields_of(config, model, dataset)
    _refuse_unlike(model, depth.path_of(name))
    return Sparsify(criterion, ratios, granularity=section.granularity, evidence=evidence, **recovered)


def ratios_of(section: ConfigDict, model: ModelSpec) -> Ratios:
    """The blocks' name in a keep, and the ratio. Raises ValueError as ``spec_of``."""
    _refuse_other_keys(section)
    path = _path(section, model)
    try:
        count = networks.blocks_of(model, path)
    except ValueError as error:
        raise ValueError(f"sparsify.layers: {error}") from error
    if count < 2:
        raise ValueError(
            f"{KEY} is 'depth', and {path!r} of {model.name} holds one block alone: nothing can go"
        )
    ratio = float(section.ratio)
    if not 0 <= ratio < 1:
        raise ValueError(f"sparsify.ratio is {ratio:g}; allowed: [0, 1)")
    if ceiling(ratio, count) >= count:
        raise ValueError(
            f"sparsify.ratio is {ratio:g}, by which none of the {count} blocks at {path!r} is left; allowed: at most "
            f"{math.floor(1e4 * (count - 1) / count) / 1e4:g}"
        )
    return ((depth.name_of(path), ratio),)


def _path(section: ConfigDict, model: ModelSpec) -> str:
    """Where the blocks are: what the config names, else the network's own."""
    if len(section.layers) > 1 or any(c in name for name in section.layers for c in "*?["):
        raise ValueError(
            f"sparsify.layers is {tuple(section.layers)}; with {KEY} 'depth' it names the path of the blocks, one and "
            "without patterns, such as ('blocks',)"
        )
    if own_parts.is_own(model.name):
        return section.layers[0] if section.layers else "blocks"
    known = models.info(model.name).blocks
    if not known or tuple(section.layers) not in ((), (known,)):
        having = [name for name in models.names() if models.info(name).blocks]
        told = f"its blocks are at {known!r}" if known else f"it has none; {', '.join(having)} has"
        raise ValueError(
            f"{KEY} is 'depth', which removes blocks that are built alike from {model.name}, and sparsify.layers is "
            f"{tuple(section.layers)}: {told}"
        )
    return known


def _refuse_other_keys(section: ConfigDict) -> None:
    unset = default_config().sparsify
    for key in FIXED:
        if section[key] != unset[key]:
            raise ValueError(
                f"sparsify.{key} is {section[key]!r}, and {KEY} 'depth', which removes whole blocks, knows no other "
                f"than {unset[key]!r}: leave it out"
            )


def _refuse_unlike(model: ModelSpec, path: str) -> None:
    """Raise ValueError where blocks aren't built alike, or the network doesn't run without one of them."""
    count = networks.blocks_of(model, path)
    variables = networks.network_of(model).variables
    name = depth.name_of(path)
    left = [
        depth.removed(variables, {}, {name: [k for k in range(count) if k != gone]}) for gone in range(count)
    ]
    if any(_shapes(each) != _shapes(left[0]) for each in left):
        raise ValueError(
            f"{KEY} is 'depth', and the blocks at {path!r} of {model.name} aren't built alike; name those of equal "
            "shapes in sparsify.layers, or choose another granularity"
        )
    try:
        small = networks.network_of(depth.at_depth(model, {name: count - 1})[0])
        jax.eval_shape(small.apply, left[0], networks.example_of(model))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{KEY} is 'depth', and {model.name} doesn't run without a block: {error}"
        ) from error


def _shapes(tree: Any) -> Any:
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]
