"""Whole blocks that a network has lost: 'blocks:depth' in a keep numbers those that stay, beside channels of groups.

Its widths say how many. The network that is left is the spec with ``blocks`` set, whose own blocks are numbered from 0.
So names of groups in the same keep are those of the network that is left.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from prune_jax.experiment.specs import ModelSpec
from prune_jax.pruning import depth
from prune_jax.pruning.keep import Keep

GRANULARITY = "depth"
_END = ":depth"


def name_of(path: str) -> str:
    """What a keep calls the blocks at a path.

    >>> name_of("blocks")
    'blocks:depth'
    """
    return path + _END


def is_depth(name: str) -> bool:
    """Whether a name in a keep is that of blocks, not of a group of channels."""
    return name.endswith(_END)


def path_of(name: str) -> str:
    """The path of the blocks that ``name_of`` was given."""
    return name.removesuffix(_END)


def only(kept: Mapping[str, Any]) -> dict[str, Any]:
    """What a keep, or widths, say of blocks. At most one entry."""
    return {name: value for name, value in kept.items() if is_depth(name)}


def at_depth(model: ModelSpec, kept: Mapping[str, Any]) -> tuple[ModelSpec, dict[str, Any]]:
    """The spec of the network without the blocks that go, and what is said of its groups.

    Args:
        model: the dense network.
        kept: a keep, or widths: of blocks the numbers of those that stay, or how many stay.

    Example:
        >>> model, rest = at_depth(ModelSpec("decoder", (8,), 256), {"blocks:depth": [0, 2], "blocks/0/mlp/gate": [1]})
        >>> model.blocks, rest
        (('blocks', 2), {'blocks/0/mlp/gate': [1]})
    """
    rest = {name: value for name, value in kept.items() if not is_depth(name)}
    for name, value in only(kept).items():
        left = int(value) if np.ndim(value) == 0 else len(value)
        model = dataclasses.replace(model, blocks=(path_of(name), left))
    return model, rest


def whole(model: ModelSpec) -> ModelSpec:
    """The spec of the network with all of its blocks."""
    return dataclasses.replace(model, blocks=())


def removed(variables: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> Any:
    """Variables without the blocks that have gone since ``before``.

    Args:
        variables: collections, of the network whose blocks are those of ``before``.
        before: what a keep says of blocks, as ``only`` gives it.
        after: the same of the network that is left.
    """
    for name, kept in after.items():
        had = np.asarray(before[name]) if name in before else None
        numbers = np.asarray(kept) if had is None else np.searchsorted(had, kept)
        if had is None or len(had) != len(numbers):
            places = places_of(variables, path_of(name))
            variables = depth.keep_blocks(variables, numbers.tolist(), places)
    return variables


def then(before: Mapping[str, Any], name: str, numbers: Any) -> Keep:
    """Of the dense network's blocks those that stay when ``numbers`` of the ones left ``before`` do."""
    chosen = np.asarray(numbers, np.int64)
    return {name: np.asarray(before[name])[chosen] if name in before else chosen}


def places_of(variables: Mapping[str, Any], path: str) -> tuple[str, ...]:
    """Where variables hold parts of the blocks: 'params/blocks', and 'batch_stats/blocks' where there is such state."""
    return tuple(
        f"{name}/{path}" for name, tree in variables.items() if name == "params" or _holds(tree, path)
    )


def _holds(tree: Any, path: str) -> bool:
    for name in path.split("/"):
        found = {str(key): child for key, child in tree.items()} if isinstance(tree, Mapping) else {}
        if name not in found:
            return False
        tree = found[name]
    return True
