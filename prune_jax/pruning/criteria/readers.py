"""The kernels that read a group's channels, as matrices with a channel for each row."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.criteria.weights import prunable
from prune_jax.pruning.evidence import Evidence
from prune_jax.pruning.inputs.layout import Layout, channels_of_rows, to_leaf, to_matrices
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.jaxpr.reading import leaf_paths


class Reader(NamedTuple):
    """A kernel that reads a group's channels.

    Attributes:
      path: of the leaf.
      weights: (blocks, rows, columns), float64 NumPy outside of a trace.
      channel: (rows,) the group's channel that each row reads, -1 for none.
      found: what the evidence holds of the kernel's inputs.
    """

    path: str
    weights: Any
    channel: np.ndarray
    found: Any


def readers(evidence: Evidence, field: str) -> dict[str, list[Reader]]:
    """The kernels that read each prunable group, as far as the evidence knows their inputs.

    Args:
      evidence: with ``field``, 'inputs' or 'input_grams'.
      field: what to hand on of each kernel.

    Returns:
      Group name -> its readers, in the order of the group's members. A group without one is left out.
    """
    known: Mapping[str, Any] = getattr(evidence, field)
    leaves = dict(leaf_paths(evidence.params))
    out = {group.name: _readers(group, known, leaves) for group in prunable(evidence.groups)}
    return {name: found for name, found in out.items() if found}


def _readers(group: Group, known: Mapping[str, Any], leaves: Mapping[str, Any]) -> list[Reader]:
    found = []
    for path, axis, index in group.members:
        channel = channels_of_rows(known[path].layout, axis, index) if path in known else None
        if channel is not None:
            weights = matrices(known[path].layout, leaves[path])
            found.append(Reader(path, weights, channel, wide(known[path])))
    return found


def wide(tree: Any) -> Any:
    """Arrays in float64 NumPy, or traced in float32 or wider."""

    def one(array: Any) -> Any:
        if isinstance(array, jax.core.Tracer):
            return array.astype(jnp.promote_types(array.dtype, jnp.float32))
        return np.asarray(array, np.float64)

    return jax.tree.map(one, tree)


def matrices(layout: Layout, leaf: Any) -> Any:
    """A kernel leaf as (blocks, rows, columns), wide."""
    return to_matrices(layout, wide(leaf))


def per_channel(reader: Reader, rows: Any, size: int) -> Any:
    """The sum of (blocks, rows) numbers over all rows of each channel: (size,)."""
    mine = reader.channel >= 0
    along = rows.sum(0)[mine]
    if isinstance(rows, jax.core.Tracer):
        return jnp.zeros(size, along.dtype).at[reader.channel[mine]].add(along)
    return np.bincount(reader.channel[mine], along, size)


def like_leaf(layout: Layout, scores: Any, leaf: Any) -> Any:
    """(blocks, rows, columns) scores in the leaf's shape, float32 or as wide as the leaf."""
    return to_leaf(layout, scores).astype(jnp.promote_types(leaf.dtype, jnp.float32))


def hosted(function: Callable[[np.ndarray], np.ndarray], array: Any, shape: Sequence[int]) -> Any:
    """A NumPy function of one array that returns floats of this shape, in a trace too."""
    if not isinstance(array, jax.core.Tracer):
        return function(np.asarray(array))
    like = jax.ShapeDtypeStruct(tuple(shape), array.dtype)
    return jax.pure_callback(
        lambda x: function(np.asarray(x, np.float64)).astype(like.dtype),
        like,
        array,
        vmap_method="sequential",
    )
