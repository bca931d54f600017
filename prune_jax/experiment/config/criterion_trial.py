"""Whether a criterion has scores of all that is pruned. It is tried on shapes, before any work."""

import functools
from typing import Any

import jax

from prune_jax.experiment import networks
from prune_jax.experiment.config.own_criterion import KEY, criterion_of
from prune_jax.experiment.own.parts import is_own
from prune_jax.experiment.specs import ModelSpec
from prune_jax.pruning.criteria.checking import WHY
from prune_jax.pruning.criteria.table import channel_scores, weight_scores
from prune_jax.pruning.evidence import OF_GROUPS, OF_KERNELS, gather
from prune_jax.pruning.granularity import cuts_channels
from prune_jax.pruning.layouts.unstructured import kernels

OF_A_KERNEL = "its kernel meets data nowhere that a trace can follow"


def refuse_unscored(name: str, model: ModelSpec, granularity: str, pruned: tuple[str, ...]) -> None:
    """Raise ValueError, in one line, where a criterion has no scores of something that is to be pruned.

    Args:
        name: the criterion. Those of the package that look at activations or inputs are tried. A user's own criterion
            is not, as JAX need not be able to trace it.
        model: the network.
        granularity: which units go, such as 'filter' or 'unstructured'.
        pruned: names of groups, or of layers for single weights.
    """
    needs = criterion_of(name).needs
    if "synflow" in needs and networks.takes_tokens(model):
        raise ValueError(
            f"{KEY} is {name!r}, which sends ones through the network; {model.name} takes tokens: choose "
            "another criterion"
        )
    if is_own(name) or not needs or not needs <= OF_GROUPS | OF_KERNELS:
        return
    of_weights = not cuts_channels(granularity)
    scored = _scored(name, model, of_weights)
    gone = [each for each in pruned if each not in scored]
    if gone:
        why = OF_A_KERNEL if of_weights else WHY.get(min(needs), "the criterion leaves it out")
        raise ValueError(
            f"{KEY} is {name!r}, which has no scores of {gone[0]}: {why}; leave it out of sparsify.layers, or choose "
            "a criterion of weights such as 'l1'"
        )


@functools.cache  # a memo: every run of a sweep asks again
def _scored(name: str, model: ModelSpec, of_weights: bool) -> frozenset[str]:
    """The groups, or layers, that the criterion has scores of. Nothing is computed."""
    network, criterion = networks.network_of(model), criterion_of(name)
    groups = networks.groups_of(model)

    def scores(variables: Any, images: jax.Array) -> Any:
        evidence = gather(criterion.needs, variables, [images], apply=network.apply, groups=groups)
        return (weight_scores if of_weights else channel_scores)(criterion, evidence)

    found = jax.eval_shape(scores, network.variables, networks.example_of(model))
    if not of_weights:
        return frozenset(found)
    layers = kernels(network.variables["params"])
    return frozenset(layer for layer, path in layers.items() if f"params/{path}" in found)
