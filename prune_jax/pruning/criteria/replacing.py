"""What compensations share: which rows of a kernel stay, and params with some leaves replaced."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from prune_jax.pruning.evidence import Evidence
from prune_jax.pruning.inputs.layout import channels_of_rows
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.keep import cuts


def kept_rows(evidence: Evidence, keep: Mapping[str, Any], field: str) -> dict[str, np.ndarray]:
    """Which rows stay of every kernel that loses inputs: leaf path -> boolean (rows,).

    Args:
      evidence: with groups and ``field``, 'inputs' or 'input_grams', which says of which kernels.
      keep: group name -> indices of channels that stay.
      field: see there.
    """
    known: Mapping[str, Any] = getattr(evidence, field)
    out: dict[str, np.ndarray] = {}
    for path, axes in cuts(evidence.groups, keep).items():
        for axis, stays in axes.items() if path in known else ():
            rows = channels_of_rows(known[path].layout, axis, stays)
            if rows is not None:
                out[path] = out.get(path, True) & rows.astype(bool)
    return out


def replaced(params: Any, new: Mapping[str, np.ndarray]) -> Any:
    """The params with other leaves at some paths, on the devices and of the dtypes that they had."""

    def one(path: str, leaf: Any) -> Any:
        if path not in new:
            return leaf
        array = np.asarray(new[path]).astype(leaf.dtype).reshape(leaf.shape)
        if not isinstance(leaf, jax.Array):
            return array
        return jax.device_put(array, leaf.sharding) if leaf.committed else jax.device_put(array)

    leaves = [one(path, leaf) for path, leaf in leaf_paths(params)]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)
