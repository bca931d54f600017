"""A criterion of the user's own, ``config.sparsify.criterion = 'my_parts:bn_scale'``, held to what it must return."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from prune_jax.experiment import networks
from prune_jax.experiment.own_parts import call_own, load_own, refuse_changed
from prune_jax.experiment.specs import ModelSpec
from prune_jax.pruning.criteria import Evidence, Scores
from prune_jax.pruning.jaxpr.groups import Group

KEY = "sparsify.criterion"


def scores_of(name: str, evidence: Evidence, groups: Sequence[Group], *, finite: bool = True) -> Scores:
    """The scores that an own criterion gives.

    Args:
        name: the reference ``module:function``; the function takes the evidence and gives, for each group that is
            to be pruned, one number per channel, the larger the more important.
        evidence: what it may look at.
        groups: those that are to be pruned.
        finite: whether NaN is refused, which a trial on random weights may give by chance.

    Returns:
        Group name -> scores ``(size,)``, of those groups alone.

    Raises:
        ValueError: in one line, as ``load_own`` and ``checked_scores``, and for what the function raises.
    """
    scores = call_own(load_own(name, KEY), name, KEY, evidence)
    return checked_scores(scores, groups, KEY, name, finite=finite)


@functools.cache  # a memo: every run of a sweep asks again
def refuse_misfit(name: str, source: str, model: ModelSpec, pruned: tuple[str, ...]) -> None:
    """Raise ValueError, before any work, where an own criterion raises or returns something else than scores.

    It is tried on random weights.

    Args:
        name: the reference ``module:function``.
        source: the hash of its file.
        model: the network.
        pruned: the groups that need scores.
    """
    refuse_changed(name, KEY, source)
    key, groups = jax.random.key(0), networks.groups_of(model)
    evidence = Evidence(networks.fresh(model, None, key), groups, key=key)
    scores_of(name, evidence, [group for group in groups if group.name in pruned], finite=False)


def checked_scores(
    scores: Any, groups: Sequence[Group], key: str, name: str, *, finite: bool = True
) -> Scores:
    """What a criterion returned, as NumPy arrays of the groups that are to be pruned.

    Raises ValueError, in one line that names the config's ``key`` and the criterion ``name``, for something else than
    a dict, a group without scores, another number of them than channels, numbers that aren't real, and NaN.
    """
    start = f"{key} is {name!r}, which returned"
    if not isinstance(scores, Mapping):
        raise ValueError(f"{start} {type(scores).__name__}; it must return a dict: group name -> scores")
    out: Scores = {}
    for group in groups:
        if group.name not in scores:
            there = ", ".join(map(str, list(scores)[:8])) or "none"
            raise ValueError(
                f"{start} no scores of {group.name}, only of {there}; score it, or leave it out of sparsify.layers"
            )
        found = np.asarray(scores[group.name])
        if found.dtype.kind not in "fiub" and found.dtype.name != "bfloat16":
            raise ValueError(f"{start} {found.dtype} for {group.name}; scores are real numbers")
        if found.shape != (group.size,):
            raise ValueError(
                f"{start} scores of shape {found.shape} for {group.name}; it has {group.size} channels, so "
                f"({group.size},)"
            )
        if finite and np.isnan(found.astype(np.float64)).any():
            raise ValueError(
                f"{start} {int(np.isnan(found.astype(np.float64)).sum())} NaN among the {group.size} scores of "
                f"{group.name}; every channel needs a rank"
            )
        out[group.name] = found
    return out
