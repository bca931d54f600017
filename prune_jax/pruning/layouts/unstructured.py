"""Unstructured pruning: scores of single weights to a mask."""

import collections
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.granularity import SCOPES, ceiling, select, select_global
from prune_jax.pruning.jaxpr.groups import layer_name
from prune_jax.pruning.jaxpr.reading import leaf_paths


def is_kernel(leaf: Any) -> bool:
    """Whether a leaf is a layer's weights: floats of rank two or more (biases and scales are not)."""
    return np.ndim(leaf) >= 2 and jnp.issubdtype(leaf.dtype, jnp.inexact)


def kernels(params: Any) -> dict[str, str]:
    """The leaves that unstructured pruning is about, by layer.

    Args:
      params: any pytree of arrays (or of their shapes and dtypes).

    Returns:
      Layer name -> leaf path, in the order of the leaves. A layer's name is its leaf's path without
      the last part and without a leading 'params', as for groups: 'params/layers/0/kernel' is
      'layers/0'. Where a layer has several such leaves, each goes by its path.
    """
    paths = [path for path, leaf in leaf_paths(params) if is_kernel(leaf)]
    count = collections.Counter(map(layer_name, paths))
    return {
        layer_name(path) if count[layer_name(path)] == 1 else path.removeprefix("params/"): path
        for path in paths
    }


def chosen(params: Any, patterns: Sequence[str]) -> dict[str, str]:
    """Kernels whose layer's name fits one of the patterns. ValueError for a pattern that fits none."""
    named = kernels(params)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in named):
            raise ValueError(f"no layer's name fits {pattern!r}; layers with kernels are {', '.join(named)}")
    return {n: path for n, path in named.items() if any(fnmatchcase(n, pattern) for pattern in patterns)}


def alive_of(before: Any, params: Any) -> dict[str, np.ndarray]:
    """What an earlier mask leaves of every leaf, at the mask's own shapes. One entry that stays without one."""
    shapes = {path: np.shape(leaf) for path, leaf in leaf_paths(params)}
    if before is None:
        return {path: np.ones((1,) * len(shape), bool) for path, shape in shapes.items()}
    masks = {path: np.asarray(mask) != 0 for path, mask in leaf_paths(before)}
    if set(masks) != set(shapes):
        odd = sorted(set(masks) ^ set(shapes))[0]
        raise ValueError(
            f"the mask before and the params differ in leaf {odd!r}; pass a mask of these params"
        )
    return masks


def scores_at(scores: Mapping[str, Any], path: str, shape: tuple[int, ...]) -> np.ndarray:
    """The scores of a leaf of this shape. KeyError where there are none."""
    if path not in scores or np.shape(scores[path]) != shape:
        raise KeyError(f"scores must hold an array of shape {shape} for leaf {path!r}")
    return np.asarray(scores[path])


def _count(name: str, size: int, ratio: float | Mapping[str, float]) -> int:
    """How many weights of a layer go. Of a mapping, the first pattern that fits the layer counts."""
    if isinstance(ratio, Mapping):
        ratio = next(part for pattern, part in ratio.items() if fnmatchcase(name, pattern))
    return ceiling(ratio, size)


class _Layer(NamedTuple):
    """One chosen kernel: which of its weights are alive, their scores, and how many of them must stay."""

    name: str
    path: str
    alive: np.ndarray
    scores: np.ndarray
    floor: int


def _layer(name: str, path: str, alive: np.ndarray, scores: np.ndarray, at_least: float) -> _Layer:
    living = scores[alive]
    return _Layer(name, path, alive, living, min(max(1, ceiling(at_least, alive.size)), living.size))


def _more(name: str, gone: int, size: int, layers: Sequence[_Layer]) -> int:
    """How many living weights go so that ``gone`` of ``size`` are pruned, as far as the floors allow."""
    living = sum(layer.scores.size for layer in layers)
    if size - living > gone:
        raise ValueError(
            f"{name}: {gone} of {size} weights are to be pruned, but the mask before prunes {size - living}; "
            "ratios are cumulative, so give one that is not lower than before"
        )
    return min(gone - (size - living), living - sum(layer.floor for layer in layers))


def _keeps(layers: Sequence[_Layer], ratio: Any, scope: str) -> list[np.ndarray]:
    """Which living weights of each layer stay."""
    if scope == "layer":
        return [
            select(
                one.scores,
                _more(f"layer {one.name!r}", _count(one.name, one.alive.size, ratio), one.alive.size, [one]),
            )
            for one in layers
        ]
    size = sum(layer.alive.size for layer in layers)
    gone = _more("all chosen layers together", ceiling(ratio, size), size, layers)
    return select_global([layer.scores for layer in layers], gone, [layer.floor for layer in layers])


def unstructured_mask(
    params: Any,
    scores: Mapping[str, Any],
    ratio: float | Mapping[str, float],
    *,
    scope: str = "layer",
    normalise: Callable[[np.ndarray], np.ndarray] | None = None,
    at_least: float = 0.0,
    where: Sequence[str] = ("*",),
    before: Any = None,
) -> Any:
    """The mask that prunes the weights with the lowest scores.

    Args:
      params: any pytree of arrays.
      scores: leaf path -> array of the leaf's shape, larger means keep (``criteria.table.weight_scores``).
      ratio: the fraction removed of each layer's kernel, or of all together. With scope 'layer' also a
        mapping of patterns over layer names to ratios, of which the first that fits a layer counts.
        Layers that fit none are not pruned.
      scope: 'layer' prunes each kernel by itself, 'global' ranks all chosen kernels together.
      normalise: makes the scores of different kernels comparable in scope 'global', such as
        ``allocation.by_norm``. It gets all scores of a kernel, pruned weights included. None: as they are.
      at_least: the fraction of every kernel that stays whatever the ratio says. One weight always stays.
      where: patterns over layer names (``kernels``) that choose what is pruned.
      before: a mask of these params, whose pruned weights stay pruned. They count: the ratio is
        cumulative, of the dense network.

    Returns:
      A pytree like ``params`` of boolean NumPy arrays: True stays. Chosen kernels have their full
      shape. Other leaves have the earlier mask, or one True with size 1 on all axes.

    Raises:
      KeyError: scores lack a chosen kernel.
      ValueError: an argument is outside its range, a pattern fits nothing, a score is NaN, or the
        mask before prunes more than the ratio asks for.

    Example:
      >>> params = {"a": {"kernel": np.array([[0.1, -0.9]])}}
      >>> unstructured_mask(params, {"a/kernel": np.abs(params["a"]["kernel"])}, 0.5)
      {'a': {'kernel': array([[False,  True]])}}
    """
    if scope not in SCOPES:
        raise ValueError(f"the scope is {scope!r}; choose one of {', '.join(SCOPES)}")
    if scope == "global" and isinstance(ratio, Mapping):
        raise ValueError("with scope 'global' there is one ratio, not one per layer; use scope 'layer'")
    named = chosen(params, where)
    if isinstance(ratio, Mapping):
        named = {name: path for name, path in named.items() if name in chosen(params, tuple(ratio))}
    masks, leaves = alive_of(before, params), dict(leaf_paths(params))
    layers = []
    for name, path in named.items():
        shape = np.shape(leaves[path])
        masks[path] = np.broadcast_to(masks[path], shape).copy()
        mine = scores_at(scores, path, shape)
        mine = mine if normalise is None else normalise(mine.astype(np.float64))
        layers.append(_layer(name, path, masks[path], mine, at_least))
    for layer, keep in zip(layers, _keeps(layers, ratio, scope), strict=True):
        layer.alive[layer.alive] = keep
    return jax.tree.unflatten(jax.tree.structure(params), [masks[path] for path in leaves])
