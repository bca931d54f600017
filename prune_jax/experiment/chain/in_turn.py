"""Layer after layer: each judged by what the pruned layers before it make of the examples."""

import glob
from collections.abc import Callable, Sequence
from typing import Any

from prune_jax.experiment import networks
from prune_jax.experiment.chain import choosing
from prune_jax.experiment.config import own_criterion
from prune_jax.experiment.networks import StageNetwork
from prune_jax.experiment.specs import Sparsify
from prune_jax.experiment.twins import channels_of, network_at
from prune_jax.pruning.compensation import compensated
from prune_jax.pruning.evidence import Evidence, part_of
from prune_jax.pruning.in_turn import in_order, masked_in_turn
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.keep import Keep
from prune_jax.pruning.layouts.naming import mask_of
from prune_jax.pruning.layouts.unstructured import chosen
from prune_jax.pruning.masks import apply_mask, expand

Look = Callable[[Any], Evidence]


def masked(before: StageNetwork, spec: Sparsify, look: Look) -> StageNetwork:
    """The network with the weights of the lowest scores at zero, kernel after kernel, and the mask.

    Args:
        before: the network as it is.
        spec: of a granularity that masks weights. Its ratios are of the dense network.
        look: variables -> what the criterion may look at.
    """
    params = before.variables["params"]
    ratios = {glob.escape(name): ratio for name, ratio in spec.ratios}

    def facts(held: Any) -> Evidence:
        return part_of(look({**before.variables, "params": held}), "params")

    def choose(evidence: Evidence, layers: tuple[str, ...], mask: Any) -> Any:
        scores = own_criterion.weight_scores_of(spec.criterion, evidence, layers)
        ratio = {layer: ratios[layer] for layer in layers}
        return mask_of(
            evidence.params,
            scores,
            spec.granularity,
            ratio,
            block=spec.block,
            pad=spec.pad,
            before=mask,
        )

    place = _places(before)
    paths = chosen(params, tuple(ratios))
    names = sorted(paths, key=lambda name: place(f"params/{paths[name]}"))
    steps = [(glob.escape(name),) for name in names]
    changed = (lambda evidence, mask: compensated_by(spec, evidence, mask)) if spec.compensate else None
    params, mask = masked_in_turn(params, steps, facts, choose, changed, before.mask)
    return before._replace(variables={**before.variables, "params": params}, mask=mask)


def kept(
    before: StageNetwork, groups: Sequence[Group], mine: Sequence[Group], spec: Sparsify, look: Look
) -> tuple[Keep, Any]:
    """The channels that stay, group after group, and the variables as compensation left them.

    Channels that are gone are held at zero until all groups are through.

    Args:
        before: the network as it is.
        groups: all of its groups.
        mine: those that lose channels.
        spec: its ratios are of the dense network.
        look: variables -> what the criterion may look at.
    """
    variables, place = before.variables, _places(before)
    keep: Keep = {}
    for group in sorted(mine, key=lambda group: place(group.producer.path)):
        evidence = look(variables)
        alone = evidence._replace(groups=(group,))
        scores = own_criterion.scores_of(spec.criterion, alone, [group], over=spec.over, reduce=spec.reduce)
        new = choosing.chosen(before, [group], spec, scores, {})
        variables = compensated_by(spec, evidence, new)
        variables = apply_mask(variables, expand(variables, groups, new))
        keep |= new
    return keep, variables


def compensated_by(spec: Sparsify, facts: Evidence, decision: Any) -> Any:
    """The params after the criterion's compensation, where the spec asks for it."""
    what = f"{own_criterion.KEY} is {spec.criterion!r}"
    criterion = own_criterion.criterion_of(spec.criterion)
    return compensated(criterion, facts, decision, what) if spec.compensate else facts.params


def _places(network: StageNetwork) -> Callable[[str], int]:
    """The place of a kernel in the order in which data pass through. One that no trace finds, as a table, is first."""
    function = network_at(network.model, channels_of(network.model, network.keep)).apply
    found = in_order(function, network.variables, networks.example_of(network.model))
    order = {path: place for place, path in enumerate(found)}
    return lambda path: order.get(path, -1)
