"""Keys of ``config.sparsify`` that say how scores come about: which slices, how often, which groups compete."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from prune_jax.experiment import networks
from prune_jax.experiment.specs import ModelSpec, Ranking
from prune_jax.pruning.criteria.criterion import Criterion, refuse_over, unfit
from prune_jax.pruning.granularity import cuts_channels
from prune_jax.pruning.isomorphism import alike, ranks_of
from prune_jax.pruning.iterated import refuse_unmaskable

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
