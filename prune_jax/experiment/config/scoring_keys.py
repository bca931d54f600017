"""Keys of ``config.sparsify`` that say how scores come about: which slices, how often, which groups compete."""

import functools
from collections.abc import Sequence

from ml_collections import ConfigDict

from prune_jax.experiment import networks
from prune_jax.experiment.specs import ModelSpec, Ranking
from prune_jax.pruning.criteria.criterion import Criterion, refuse_over, unfit
from prune_jax.pruning.evidence import DATA_FREE
from prune_jax.pruning.granularity import cuts_channels
from prune_jax.pruning.inputs.products import traced
from prune_jax.pruning.isomorphism import alike, ranks_of
from prune_jax.pruning.iterated import refuse_unmaskable
from prune_jax.pruning.layouts.unstructured import kernels

KEYS = ("sparsify.over", "sparsify.reduce")


def refuse(section: ConfigDict, model: ModelSpec, criterion: Criterion, layers: tuple[str, ...]) -> None:
    """Raise ValueError, in one line, for slices, iterations and groups that don't fit the criterion or the network.

    Args:
        section: ``config.sparsify``.
        model: the network.
        criterion: that of the section.
        layers: names of the groups that are pruned. For granularities that mask weights, names of layers.
    """
    refuse_over(criterion, section.over, section.reduce, KEYS)
    if section.iterations < 1:
        raise ValueError(f"sparsify.iterations is {section.iterations}; it must be at least 1")
    if not cuts_channels(section.granularity):
        if section.over != "producer":
            raise ValueError(
                f"sparsify.over is {section.over!r}, which speaks of channels, and sparsify.granularity is "
                f"{section.granularity!r}; choose granularity 'filter', or leave sparsify.over out"
            )
        return
    groups = [group for group in networks.groups_of(model) if group.name in layers]
    refuse_unmaskable(groups, section.iterations, "sparsify.iterations")
    odd = unfit(criterion, groups)
    if odd is not None:
        raise ValueError(
            f"sparsify.criterion is {section.criterion!r}, which can't score {odd[0]} of {model.name}: {odd[1]}; leave "
            "it out of sparsify.layers, or choose a criterion of weights such as 'l1'"
        )


def refuse_in_turn(
    section: ConfigDict, model: ModelSpec, criterion: Criterion, layers: tuple[str, ...], *, ranked: bool
) -> None:
    """Raise ValueError, in one line, for layers in turn where all must be judged at once, or none looks at data.

    Args:
        section: as for ``refuse``, like the others.
        model: the network.
        criterion: that of the section.
        layers: what is pruned.
        ranked: whether scores of all layers decide how much each loses.
    """
    if not section.in_turn:
        return
    key = "sparsify.in_turn is True"
    if ranked:
        raise ValueError(
            f"{key}, and sparsify.allocation {section.allocation!r} compares the scores of all layers: choose 'uniform'"
        )
    if section.iterations > 1:
        raise ValueError(f"{key}, by which layers are judged one by one, and sparsify.iterations is "
                         f"{section.iterations}: choose 1")  # fmt: skip
    if not criterion.needs - DATA_FREE:
        raise ValueError(
            f"{key}, and sparsify.criterion {section.criterion!r} looks at no examples, so that the order changes "
            "nothing: leave it out, or choose a criterion such as 'wanda'"
        )
    stacked = [name for name in layers if name in _stacked(model)]
    if stacked:
        raise ValueError(
            f"{key}, and {stacked[0]} holds the kernels of all blocks of {model.name}, stacked, which go at once: list "
            "the blocks (model.options.scan=False), or leave sparsify.in_turn out"
        )
    if cuts_channels(section.granularity):
        held = [group for group in networks.groups_of(model) if group.name in layers and not group.maskable]
        for group in held:
            raise ValueError(
                f"{key}, which masks channels in between, but no mask can stand for channels of {group.name!r}: "
                f"{group.unmaskable}; leave it out of sparsify.layers, or sparsify.in_turn"
            )


@functools.cache  # a memo: every run of a sweep asks again
def _stacked(model: ModelSpec) -> frozenset[str]:
    """Names of layers, and so of groups, whose kernel holds those of several blocks that a scan goes through."""
    network = networks.network_of(model)
    found = traced(network.apply, network.variables, networks.example_of(model)).products
    named = kernels(network.variables["params"])
    return frozenset(
        name
        for name, path in named.items()
        if any(product.scan is not None for product in found.get(f"params/{path}", []))
    )


def ranked_sizes(
    model: ModelSpec, ranking: Ranking, granularity: str, block: Sequence[int] = ()
) -> list[list[int]]:
    """The sizes of the layers that are ranked together: one list, or one for each kind of group."""
    sizes = networks.unit_sizes(model, ranking.layers, granularity, block)
    if ranking.scope != "isomorphic":
        return [list(sizes.values())]
    groups = [group for group in networks.groups_of(model) if group.name in sizes]
    ranks = ranks_of(networks.network_of(model).variables)
    return [[group.size for group in each] for each in alike(groups, ranks)]
