"""Scores of a model's channels or weights, with the evidence that the criterion needs."""

import functools
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.criteria.checking import checked_weights, refuse_nan
from prune_jax.pruning.criteria.criterion import channel_scores, missing, name_of, unfit, weight_scores
from prune_jax.pruning.evidence import DATA_FREE, OF_GROUPS, OF_KERNELS, Evidence, gatherer
from prune_jax.pruning.granularity import cuts_channels
from prune_jax.pruning.iterated import refuse_unmaskable
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.layouts.unstructured import chosen, kernels
from prune_jax.pruning.module.asked import Asked

Scores = dict[str, np.ndarray]
GIVE = {"key": "key=jax.random.key(seed)", **dict.fromkeys(OF_GROUPS | OF_KERNELS, "batches=[...]")}


def refuse_lacking(asked: Asked) -> None:
    """Raise ValueError, in one line, for a criterion that needs what isn't given."""
    if asked.keep is not None:
        return
    given = {"synflow"}
    if asked.key is not None:
        given.add("key")
    if asked.batches is not None:
        given |= OF_GROUPS | OF_KERNELS
        if asked.loss is not None:
            given |= {"grads", "grads_squared", "hessian_gradient", "fisher"}
            given |= {"hessian_products"} if asked.key is not None else set()
    lacks = missing(asked.criterion, given)
    if lacks:
        way = GIVE.get(lacks[0], "batches=[...] and loss=function(model, batch)")
        raise ValueError(f"criterion is {name_of(asked.criterion)!r}, which needs {lacks[0]}; give {way}")


def refuse_unscored(asked: Asked, variables: Any, patterns: Sequence[str], scores: Scores) -> None:
    """Raise ValueError, in one line, for a layer that is to be pruned and whose weights have no scores."""
    ratios = tuple(asked.ratio) if isinstance(asked.ratio, Mapping) else ("*",)
    why = "it meets data nowhere that a trace can follow; " if asked.criterion.needs & OF_KERNELS else ""
    for name, path in chosen(variables, patterns).items():
        if path not in scores and any(fnmatchcase(name, pattern) for pattern in ratios):
            raise ValueError(
                f"criterion is {name_of(asked.criterion)!r}, which has no scores of {name}; {why}name "
                f"other layers, such as layers={next(iter(_scored(variables, scores)), '*')!r}"
            )


def _scored(variables: Any, scores: Scores) -> list[str]:
    return [name for name, path in kernels(variables).items() if path in scores]


def looking(
    asked: Asked,
    variables: Any,
    groups: Sequence[Group],
    apply: Callable[..., Any],
    called: Callable[[Any], Any],
    inputs: Sequence[jax.ShapeDtypeStruct],
) -> Callable[[Any], Evidence]:
    """A function of variables: what the criterion may look at.

    Args:
      asked: what ``prune`` was asked for.
      variables: of the network as it is. The function takes these, or others of the same shapes.
      groups: of the network as it is. Empty for single weights.
      apply: its function of variables and inputs.
      called: the model as the user's loss takes it, from variables.
      inputs: what ``apply`` takes: the first entries of a batch.
    """
    criterion, loss, many = asked.criterion, asked.loss, len(inputs)
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(variables)):
        raise ValueError(
            f"target holds shapes without numbers, which {name_of(criterion)!r} can't score; give keep"
        )
    needs = criterion.needs - {"key"}
    batches = asked.batches
    if asked.iterations > 1 and needs - DATA_FREE:
        batches = list(batches)  # looked at in every iteration
    gather = gatherer(
        needs,
        loss=loss and (lambda v, batch: loss(called(v), batch)),
        apply=lambda v, batch: apply(v, *(batch[:many] if isinstance(batch, tuple | list) else (batch,))),
        groups=groups,
        flow=lambda v: apply(v, *(jnp.ones(x.shape, _kind(x)) for x in inputs)),
    )

    def look(variables: Any) -> Evidence:
        if not needs:
            return Evidence(variables, groups, key=asked.key)
        return gather(variables, batches if needs - DATA_FREE else (), asked.key)

    return look


def scores_of(asked: Asked, facts: Evidence) -> Scores:
    """Scores by group name, or by leaf path where single weights are scored. Raises ValueError, in one line."""
    criterion = asked.criterion

    @functools.wraps(criterion.score)
    def held(facts: Evidence) -> Scores:
        return checked_weights(criterion.score(facts), facts, f"criterion is {name_of(criterion)!r}")

    sure = criterion._replace(score=held) if criterion.unit == "weight" else criterion
    if cuts_channels(asked.granularity):
        return channel_scores(sure, facts, over=asked.over, reduce=asked.reduce)
    scores = weight_scores(sure, facts)
    refuse_nan(scores, f"criterion is {name_of(criterion)!r}", "weight")
    return scores


def _kind(x: jax.ShapeDtypeStruct) -> Any:
    """The dtype of an input of ones: the widest float there is, and whole numbers as they are."""
    return float if jnp.issubdtype(x.dtype, jnp.floating) else x.dtype


def refuse_unfit(asked: Asked, groups: Sequence[Group]) -> None:
    """Raise ValueError, in one line, for a group that the criterion can't score, or that can't be masked."""
    odd = unfit(asked.criterion, groups)
    if odd is not None:
        raise ValueError(
            f"criterion is {name_of(asked.criterion)!r}, which can't score {odd[0]!r}: {odd[1]}; leave it out of "
            "layers, or take a criterion of weights such as 'l1'"
        )
    refuse_unmaskable(groups, asked.iterations)
