"""Scores of a model's channels or weights, with the evidence that the criterion needs."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from prune_jax.pruning.criteria.criterion import channel_scores, missing, name_of, weight_scores
from prune_jax.pruning.evidence import Evidence, gather
from prune_jax.pruning.granularity import cuts_channels
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.module.asked import Asked

Scores = dict[str, np.ndarray]
GIVE = {"key": "key=jax.random.key(seed)", "activations": "batches=[...]"}


def refuse_lacking(asked: Asked) -> None:
    """Raise ValueError, in one line, for a criterion that needs what isn't given."""
    if asked.keep is not None:
        return
    given = set()
    if asked.key is not None:
        given.add("key")
    if asked.batches is not None:
        given.add("activations")
        if asked.loss is not None:
            given |= {"grads", "grads_squared"} | ({"hessian_products"} if asked.key is not None else set())
    lacks = missing(asked.criterion, given)
    if lacks:
        way = GIVE.get(lacks[0], "batches=[...] and loss=function(model, batch)")
        raise ValueError(f"criterion is {name_of(asked.criterion)!r}, which needs {lacks[0]}; give {way}")


def scores_of(
    asked: Asked,
    variables: Any,
    groups: Sequence[Group],
    apply: Callable[..., Any],
    called: Callable[[Any], Any],
    inputs: int,
) -> Scores:
    """Scores by group name, or by leaf path with granularity 'unstructured'.

    Args:
      asked: what ``prune`` was asked for.
      variables: of the network as it is.
      groups: of the network as it is; empty for single weights.
      apply: its function of variables and inputs.
      called: the model as the user's loss takes it, from variables.
      inputs: how many inputs ``apply`` takes: the first entries of a batch.
    """
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(variables)):
        raise ValueError(
            f"target holds shapes without numbers, which {name_of(asked.criterion)!r} can't score; give keep"
        )
    evidence = Evidence(variables, groups, key=asked.key)
    if asked.criterion.needs - {"key"}:
        loss = asked.loss
        evidence = gather(
            asked.criterion.needs,
            variables,
            asked.batches,
            key=asked.key,
            loss=loss and (lambda v, batch: loss(called(v), batch)),
            apply=lambda v, batch: apply(
                v, *(batch[:inputs] if isinstance(batch, tuple | list) else (batch,))
            ),
            groups=groups,
        )
    scorer: Any = channel_scores if cuts_channels(asked.granularity) else weight_scores
    return scorer(asked.criterion, evidence)
