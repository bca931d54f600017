"""Rounds never give back: a chain whose later round asks for less than is gone before is refused.

A round says how much is gone in one of three ways: a ratio for each layer, a ratio of several layers together, or a
speedup. Two rounds of different ways are compared where the sizes of the network decide it. Ratios of each layer fix
the layers' sizes, so they have a total and a speedup too. A total says nothing of a speedup, as it leaves open which
layers lose.
"""

from collections.abc import Mapping
from typing import NamedTuple

from prune_jax.experiment import networks
from prune_jax.experiment.specs import ModelSpec, Sparsify, Stage
from prune_jax.pruning.granularity import ceiling, cuts_channels

Sizes = Mapping[str, int]  # channels of each group, or weights of each layer, in the dense network


class _Gone(NamedTuple):
    """What is known to be gone: units of each layer, of layers together, and a speedup (1: nothing known)."""

    each: dict[str, int]
    together: dict[tuple[str, ...], int]
    speedup: float


def refuse_falling(chain: tuple[Stage, ...], model: ModelSpec) -> None:
    """Raise ValueError where a sparsify stage asks for less than the ones before it took, or mixes granularities."""
    cuts = [(place, spec) for place, spec in enumerate(chain) if isinstance(spec, Sparsify)]
    _refuse_mixed(cuts)
    if len(cuts) < 2:
        return
    sizes = networks.sizes_of(model, ("*",), cuts[0][1])
    gone = _Gone({}, {}, 1.0)
    _refuse_lower_ratios(cuts)
    for place, spec in cuts:
        asked = _asked(spec, model, sizes)
        _refuse_less(place, asked, gone, sizes)
        gone = _Gone(gone.each | asked.each, gone.together | asked.together, max(gone.speedup, asked.speedup))


def _refuse_mixed(cuts: list[tuple[int, Sparsify]]) -> None:
    for place, spec in cuts:
        if spec.granularity != cuts[0][1].granularity:
            raise ValueError(
                f"sparsify.granularity is {spec.granularity!r} in stage {place} of the chain and "
                f"{cuts[0][1].granularity!r} before; a chain keeps to one"
            )


def _refuse_lower_ratios(cuts: list[tuple[int, Sparsify]]) -> None:
    """Refuse a ratio below the one before even where both come to as many units."""
    before: dict[str, float] = {}
    for place, spec in cuts:
        ratios = dict(spec.ratios)
        if spec.ranking is not None and not spec.ranking.speedup:
            ratios = {"all layers together": spec.ranking.ratio}
        for name, ratio in ratios.items():
            if ratio < before.get(name, 0.0):
                raise ValueError(_falls(place, name, ratio, before[name]))
        before |= ratios


def _asked(spec: Sparsify, model: ModelSpec, sizes: Sizes) -> _Gone:
    """What is gone of the dense network after a stage, as far as its spec alone tells."""
    ranking = spec.ranking
    if ranking is not None and ranking.speedup:
        return _Gone({}, {}, ranking.speedup)
    if ranking is not None:
        units = networks.sizes_of(model, ranking.layers, spec)
        return _Gone({}, {tuple(units): ceiling(ranking.ratio, sum(units.values()))}, 1.0)
    if not cuts_channels(spec.granularity):
        return _Gone({name: ceiling(ratio, sizes[name]) for name, ratio in spec.ratios}, {}, 1.0)
    widths = networks.widths_of(model, spec.ratios, spec.round_to)
    speedup = networks.cost_of(model).macs / networks.cost_of(model, widths).macs
    return _Gone({name: sizes[name] - width for name, width in widths.items()}, {}, speedup)


def _refuse_less(place: int, asked: _Gone, before: _Gone, sizes: Sizes) -> None:
    for name, gone in asked.each.items():
        if gone < before.each.get(name, 0):
            raise ValueError(_falls(place, name, gone / sizes[name], before.each[name] / sizes[name]))
    for names, total in asked.together.items():
        size = sum(sizes[name] for name in names)
        least = _least(names, before, sizes)
        if total < least:
            raise ValueError(_falls(place, "all layers together", total / size, least / size))
    for names in before.together:
        mine = [name for name in names if name in asked.each]
        least = _least(tuple(mine), before, sizes)
        if mine and sum(asked.each[name] for name in mine) < least:
            size = sum(sizes[name] for name in mine)
            got = sum(asked.each[name] for name in mine) / size
            raise ValueError(_falls(place, f"{', '.join(mine)} together", got, least / size))
    if asked.speedup < before.speedup and (asked.each or not asked.together):
        raise ValueError(
            f"stage {place} of the chain, sparsify, gives a speedup of {asked.speedup:.4g}, but {before.speedup:.4g} "
            "is reached before: speedups and ratios are of the dense network, so ask for more, or for less before"
        )


def _least(names: tuple[str, ...], before: _Gone, sizes: Sizes) -> int:
    """At least so many units of these layers are gone. Of layers outside them as many as can go may be."""
    least = sum(before.each.get(name, 0) for name in names)
    for others, total in before.together.items():
        elsewhere = sum(sizes[name] - 1 for name in others if name not in names)
        least = max(least, total - elsewhere)
    return least


def _falls(place: int, what: str, ratio: float, before: float) -> str:
    return (
        f"stage {place} of the chain, sparsify, has {ratio:.4g} for {what}, but {before:.4g} is gone before: ratios "
        f"are of the dense network, so give at least {before:.4g}"
    )
