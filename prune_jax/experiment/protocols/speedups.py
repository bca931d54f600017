"""Speedups of a config's network, before any data is read."""

import bisect
import functools

from ml_collections import ConfigDict

from prune_jax import data, models
from prune_jax.experiment import networks
from prune_jax.experiment.own import parts as own_parts
from prune_jax.experiment.specs import ModelSpec

GRID = tuple(step / 1000 for step in range(1000))


def spec_of(config: ConfigDict) -> ModelSpec:
    """The network that the config names, sized for its data set. ValueError for an unknown one."""
    section = config.dataset
    shape, classes = data.input_of(
        section.name,
        split_seed=section.split_seed,
        data_dir=section.data_dir or None,
        sizes=data.Synthetic(**section.synthetic),
        size=section.size,
        window=section.window,
    )
    return ModelSpec(config.model.name, shape, classes, tuple(sorted(config.model.options.items())))


def speedup(spec: ModelSpec, layers: tuple[str, ...], ratio: float) -> float:
    """Dense over pruned multiply-accumulates at one ratio. By default in the layers that the paper prunes."""
    return _macs(spec, layers, 0.0) / _macs(spec, layers, ratio)


def ratio_for(spec: ModelSpec, layers: tuple[str, ...], target: float) -> float:
    """The smallest uniform ratio, to a thousandth, that reaches a speedup (it rises with the ratio).

    Raises ValueError when no ratio does.
    """
    place = bisect.bisect_left(GRID, target, key=lambda ratio: speedup(spec, layers, ratio))
    if place == len(GRID):
        raise ValueError(
            f"{spec.name} reaches no speedup of {target:g}x: {speedup(spec, layers, GRID[-1]):.3g}x at "
            f"ratio {GRID[-1]}; prune more layers or choose another network"
        )
    return GRID[place]


def has_stages(spec: ModelSpec, count: int) -> bool:
    """Whether a list of ``count`` ratios (stem, stages, head) fits the network."""
    return not own_parts.is_own(spec.name) and len(models.info(spec.name).stages) == count


@functools.cache  # a memo of a pure function of frozen arguments: a trace costs up to a second
def _macs(spec: ModelSpec, layers: tuple[str, ...], ratio: float) -> int:
    return networks.cost_of(spec, networks.widths_of(spec, networks.uniform_ratios(spec, layers, ratio))).macs
