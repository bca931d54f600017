"""Erdős–Rényi-kernel allocation: how much each layer loses of a ratio of all layers together."""

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from prune_jax.pruning.granularity import ceiling


def erk_ratios(
    shapes: Mapping[str, tuple[int, ...]], ratio: float, units: Mapping[str, int] = MappingProxyType({})
) -> dict[str, float]:
    """The pruning ratio of each layer whose density is proportional to (sum of its dims) / (product of its dims).

    Where the proportion would leave more than all of a layer, all of it stays, and the others share what is left, so
    that the overall ratio is met. Counts are whole: what rounding leaves over goes to the largest remainders, of equal
    ones to the earlier layer.

    Args:
      shapes: layer name -> shape of its kernel.
      ratio: the fraction removed of all layers together, in [0, 1].
      units: layer name -> how many units it has, where they aren't single weights. Each layer keeps at least one.

    Returns:
      Layer name -> ratio, such that ``ceil(ratio * units)`` of the layers add up to ``ceil(ratio * all units)``, as far
      as the one that stays of each layer allows.

    Raises:
      ValueError: the ratio is outside [0, 1].

    Source: Evci et al., "Rigging the Lottery", ICML 2020, arXiv 1911.11134, §3 (1).

    Example:
      >>> erk_ratios({"a": (2, 2), "b": (4, 8)}, 0.5)
      {'a': 0.0, 'b': 0.5625}
    """
    sizes = {name: units.get(name, math.prod(shape)) for name, shape in shapes.items()}
    total = sum(sizes.values())
    kept = min(total, max(total - ceiling(ratio, total), len(sizes)))
    densities = _densities(shapes, sizes, kept)
    counts = _whole({name: densities[name] * size for name, size in sizes.items()}, sizes, kept)
    return {name: _ratio(size - counts[name], size) for name, size in sizes.items()}


def _densities(
    shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int], kept: int
) -> dict[str, float]:
    """Density of each layer. Those that would pass 1 are fixed there, and the others worked out again.

    Layers of shapes (2, 2) and (4, 8) and 18 weights to keep: raw densities are 1 and 0.375, so eps * (4 + 12) = 18
    gives the first 1.125. It stays whole, and eps * 12 = 14 gives the second 0.4375.
    """
    raw = {name: sum(shape) / math.prod(shape) for name, shape in shapes.items()}
    whole: set[str] = set()
    while len(whole) < len(raw):
        left = kept - sum(sizes[name] for name in whole)
        scale = left / sum(raw[name] * sizes[name] for name in raw if name not in whole)
        full = {name for name in raw if name not in whole and scale * raw[name] >= 1}
        if not full:
            return {name: 1.0 if name in whole else scale * raw[name] for name in raw}
        whole |= full
    return dict.fromkeys(raw, 1.0)


def _whole(wanted: Mapping[str, float], sizes: Mapping[str, int], kept: int) -> dict[str, int]:
    """Whole numbers near the wanted ones, from 1 to each layer's size, that add up to ``kept``."""
    counts = {name: min(max(1, math.floor(number + 1e-9)), sizes[name]) for name, number in wanted.items()}
    names = list(wanted)
    while over := sum(counts.values()) - kept:
        gaps = np.asarray([wanted[name] - counts[name] for name in names])
        free = [counts[name] > 1 if over > 0 else counts[name] < sizes[name] for name in names]
        order = np.argsort(gaps if over > 0 else -gaps, kind="stable")
        for place in [k for k in order if free[k]][: abs(over)]:
            counts[names[place]] += -1 if over > 0 else 1
    return counts


def _ratio(gone: int, size: int) -> float:
    """A ratio whose ceiling is ``gone``: the quotient may be a digit too large for a layer of many weights."""
    ratio = gone / size
    while ceiling(ratio, size) > gone:
        ratio = math.nextafter(ratio, 0.0)
    return ratio
