"""A criterion of the user's own, ``config.sparsify.criterion = 'my_parts:bn_scale'``, held to what it must return."""

import functools
import glob
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from prune_jax.experiment import depth, networks
from prune_jax.experiment.own.parts import call_own, is_own, load_object, refuse_changed
from prune_jax.experiment.specs import ModelSpec, Sparsify
from prune_jax.pruning.criteria.checking import checked_scores, checked_weights, refuse_nan
from prune_jax.pruning.criteria.table import CRITERIA, Criterion, channel_scores, missing, weight_scores
from prune_jax.pruning.criteria.weights import on_host
from prune_jax.pruning.evidence import NEEDS, Evidence
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.layouts.unstructured import chosen

KEY = "sparsify.criterion"
Scores = dict[str, Any]


def compensates(spec: Sparsify) -> bool:
    """Whether an action changes weights that stay, beside choosing. One that removes blocks changes none."""
    if not spec.compensate or spec.granularity == depth.GRANULARITY:
        return False
    return criterion_of(spec.criterion).compensate is not None


def criterion_of(name: str) -> Criterion:
    """The criterion that a config names: one of the table, or the user's own.

    Args:
        name: a name of the table, or a reference ``module:function``. What it refers to is a ``Criterion``, or a
            function of the evidence, which then scores channels and needs nothing but params and groups.

    Returns:
        The criterion. What the functions of an own one raise becomes a ValueError of one line.

    Raises:
        ValueError: in one line, as ``load_object``, for what is neither, an unknown unit, and unknown needs.
    """
    if not is_own(name):
        return CRITERIA[name]
    found = load_object(name, KEY)
    if not isinstance(found, Criterion):
        if not callable(found):
            raise ValueError(
                f"{KEY} is {name!r}, which is of type {type(found).__name__}; it must be a function of the evidence or "
                "a Criterion"
            )
        found = Criterion(found, "channel")
    if found.unit not in ("weight", "channel"):
        raise ValueError(f"{KEY} is {name!r}, whose unit is {found.unit!r}; allowed: 'weight', 'channel'")
    try:
        missing(found, NEEDS)
    except ValueError as error:
        raise ValueError(f"{KEY} is {name!r}: {error}") from error
    guard = _guarded_weights if found.unit == "weight" else _guarded
    return found._replace(
        score=functools.partial(guard, found.score, name),
        channels=found.channels and functools.partial(_guarded, found.channels, name),
        compensate=found.compensate and functools.partial(call_own, found.compensate, name, KEY),
    )


def _guarded(function: Callable[[Evidence], Scores], name: str, evidence: Evidence) -> Scores:
    """An own function's scores, in NumPy unless they are traced, as those of the table are."""
    scores = call_own(function, name, KEY, evidence)
    return {key: on_host(each) for key, each in scores.items()} if isinstance(scores, Mapping) else scores


def _guarded_weights(function: Callable[[Evidence], Scores], name: str, evidence: Evidence) -> Scores:
    """An own function's scores of single weights, each leaf's in the leaf's shape."""
    return checked_weights(call_own(function, name, KEY, evidence), evidence, f"{KEY} is {name!r}")


def scores_of(
    name: str, evidence: Evidence, groups: Sequence[Group], *, finite: bool = True, **slices: str
) -> Scores:
    """The scores that a criterion gives to the channels of ``groups``, those that are to be pruned.

    Args:
        name: as for ``criterion_of``.
        evidence: with all that the criterion needs.
        groups: those that are to be pruned.
        finite: whether NaN is refused, which a trial on random weights may give by chance.
        slices: ``over`` and ``reduce`` of ``channel_scores``.

    Returns:
        Group name -> scores ``(size,)``, of those groups alone.

    Raises:
        ValueError: in one line, as ``criterion_of`` and ``checked_scores``.
    """
    scores = channel_scores(criterion_of(name), evidence, **slices)
    return checked_scores(scores, groups, f"{KEY} is {name!r}", "sparsify.layers", finite=finite)


def weight_scores_of(name: str, evidence: Evidence, layers: Sequence[str], *, finite: bool = True) -> Scores:
    """The scores that a criterion gives to single weights.

    Args:
        name: as for ``criterion_of``.
        evidence: of params, with all that the criterion needs and without groups.
        layers: names or patterns of the layers that are to be pruned.
        finite: as for ``scores_of``.

    Returns:
        Leaf path -> scores of the leaf's shape.

    Raises:
        ValueError: in one line, as ``criterion_of``, ``checked_weights``, and for a layer without scores.
    """
    scores = weight_scores(criterion_of(name), evidence)
    for layer, path in chosen(evidence.params, tuple(layers)).items():
        if path not in scores:
            there = ", ".join(list(scores)[:8]) or "none"
            raise ValueError(
                f"{KEY} is {name!r}, which returned no scores of {path}, only of {there}; score it, or leave {layer} "
                "out of sparsify.layers"
            )
    if finite:
        refuse_nan(scores, f"{KEY} is {name!r}", "weight")
    return scores


@functools.cache  # a memo: every run of a sweep asks again
def refuse_misfit(
    name: str, source: str, model: ModelSpec, pruned: tuple[str, ...], channels: bool = True
) -> None:
    """Raise ValueError, before any work, where an own criterion raises or returns something else than scores.

    It is tried on random weights, unless it needs more than these and a key.

    Args:
        name: the reference ``module:function``.
        source: the hash of its file.
        model: the network.
        pruned: the groups that need scores, or the layers.
        channels: whether channels are cut. Else single weights are scored.
    """
    refuse_changed(name, KEY, source)
    if criterion_of(name).needs - {"key"}:
        return
    key, groups = jax.random.key(0), networks.groups_of(model)
    variables = networks.fresh(model, None, key)
    if not channels:
        layers = [glob.escape(layer) for layer in pruned]
        weight_scores_of(name, Evidence(variables["params"], key=key), layers, finite=False)
        return
    evidence = Evidence(variables, groups, key=key)
    scores_of(name, evidence, [group for group in groups if group.name in pruned], finite=False)
