"""Sensitivity: what a network loses when one group alone loses a part of its channels, or one layer of its weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from prune_jax.pruning.allocation import lowest, pruned_count
from prune_jax.pruning.granularity import ceiling, select
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.keep import cuts
from prune_jax.pruning.layouts.unstructured import chosen

RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
Without = Callable[[str, float], Any]


class Sensitivity(NamedTuple):
    """What was measured.

    Attributes:
      names: of the N groups or layers.
      ratios: the R fractions removed.
      values: float64 ``(N, R)``, or ``(N, R, M)`` where M numbers are measured.
      dense: the same of the whole network, a number or ``(M,)``.
    """

    names: tuple[str, ...]
    ratios: tuple[float, ...]
    values: np.ndarray
    dense: np.ndarray


def sensitivity(
    measure: Callable[[Any], Any],
    variables: Any,
    without: Without,
    names: Sequence[str],
    ratios: Sequence[float] = RATIOS,
) -> Sensitivity:
    """A measure of the network while each group alone is pruned at each ratio.

    Pruned channels and weights are zeros in variables of the dense shapes, which are an argument of ``measure``. So a
    jitted one is compiled once for all groups and ratios.

    Args:
      measure: ``measure(variables)`` -> a number, or several ``(M,)``, such as the loss over some examples.
      variables: of the whole network.
      without: ``without(name, ratio)`` -> the variables with a part of one group zeroed: ``without_channels`` or
        ``without_weights``.
      names: of the groups.
      ratios: fractions removed.

    Returns:
      The measurements, by group and ratio.

    Raises:
      ValueError: a ratio is outside [0, 1].

    Example:
      >>> net = {"a": {"kernel": np.array([[1.0, -3.0]])}}
      >>> found = sensitivity(
      ...     lambda v: abs(v["a"]["kernel"]).sum(),
      ...     net,
      ...     without_weights(net, {"a/kernel": abs(net["a"]["kernel"])}),
      ...     ["a"],
      ...     [0.0, 0.5, 1.0],
      ... )
      >>> found.values
      array([[4., 3., 0.]])
    """
    for ratio in ratios:
        ceiling(ratio, 1)
    values = [[_number(measure(without(name, ratio))) for ratio in ratios] for name in names]
    dense = _number(measure(variables))
    shaped = np.asarray(values, np.float64).reshape(len(names), len(ratios), *dense.shape)
    return Sensitivity(tuple(names), tuple(map(float, ratios)), shaped, dense)


def without_channels(variables: Any, groups: Sequence[Group], scores: Mapping[str, Any]) -> Without:
    """Variables with the lowest channels of one group zeroed, in all that makes and reads them.

    Args:
      variables: any pytree of arrays.
      groups: as ``find_groups`` gives them for these variables. Those that are asked for must be maskable.
      scores: group name -> scores (channels,), larger means keep.

    Returns:
      ``without(name, ratio)``: of ``n`` channels ``ceil(ratio * n)`` go, at least one stays.

    Raises:
      ValueError: from ``without``, for a group that no mask can stand for.
    """
    leaves, by_name = _on_host(variables), {group.name: group for group in groups}

    def without(name: str, ratio: float) -> Any:
        group = by_name[name]
        if not group.maskable:
            raise ValueError(
                f"zeroed channels of {name!r} don't stand for pruned ones: {group.unmaskable}; leave the group out"
            )
        keep = {name: lowest(np.asarray(scores[name]), pruned_count(group.size, ratio))}
        changed = {path: _zeroed(leaves[path], axes) for path, axes in cuts(groups, keep).items()}
        return _replaced(variables, changed)

    return without


def without_weights(variables: Any, scores: Mapping[str, Any], where: Sequence[str] = ("*",)) -> Without:
    """Variables with the lowest weights of one layer's kernel zeroed.

    Args:
      variables: any pytree of arrays.
      scores: leaf path -> array of the leaf's shape, larger means keep.
      where: patterns over layer names (``unstructured.kernels``).

    Returns:
      ``without(name, ratio)``: ``ceil(ratio * n)`` of the layer's ``n`` weights go.

    Raises:
      ValueError: a pattern fits no layer.
    """
    leaves, paths = _on_host(variables), chosen(variables, where)

    def without(name: str, ratio: float) -> Any:
        path = paths[name]
        return _replaced(variables, {path: leaves[path] * select(scores[path], float(ratio))})

    return without


def ratios_of_equal_damage(damage: np.ndarray, ratios: Sequence[float], level: float) -> np.ndarray:
    """The ratio of each group at which its damage, alone, is ``level``.

    Damage is taken as 0 at ratio 0, never falling (its running maximum), and linear between the measured ratios.

    Args:
      damage: ``(N, R)``, how much worse the network is with each group pruned alone: such as the loss's increase.
      ratios: the R ratios, rising.
      level: of all groups alike, at least 0.

    Returns:
      float64 ``(N,)``: the largest ratio whose damage is at most ``level``, at most the last of ``ratios``.

    Raises:
      ValueError: the ratios don't rise.

    Example:
      >>> ratios_of_equal_damage(np.array([[0.1, 0.4], [0.0, 0.2]]), (0.5, 0.9), 0.2)
      array([0.63333333, 0.9       ])
    """
    at = np.asarray([0.0, *ratios], np.float64)
    if (np.diff(at) <= 0).any():
        raise ValueError(f"ratios must rise from above 0, not {tuple(ratios)}")
    known = np.where(np.isnan(damage), np.inf, np.asarray(damage, np.float64))
    rising = np.maximum.accumulate(np.c_[np.zeros(len(known)), known], axis=1)
    return np.asarray([_crossing(line, at, level) for line in rising])


def _crossing(line: np.ndarray, at: np.ndarray, level: float) -> float:
    k = int(np.searchsorted(line, level, side="right")) - 1  # the last one that is not above the level
    if k == len(line) - 1:
        return float(at[-1])
    share = (level - line[k]) / (line[k + 1] - line[k])
    return float(at[k] + share * (at[k + 1] - at[k]))


def _on_host(variables: Any) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in leaf_paths(variables)}


def _zeroed(leaf: np.ndarray, axes: Mapping[int, np.ndarray]) -> np.ndarray:
    out = leaf.copy()
    for axis, stays in axes.items():
        out[(slice(None),) * axis + (~stays,)] = 0
    return out


def _replaced(variables: Any, changed: Mapping[str, np.ndarray]) -> Any:
    leaves = [changed.get(path, leaf) for path, leaf in leaf_paths(variables)]
    return jax.tree.unflatten(jax.tree.structure(variables), leaves)


def _number(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64)
