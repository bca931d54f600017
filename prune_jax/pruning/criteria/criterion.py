"""What a criterion is, and how to ask one for scores. Larger score: keep."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from prune_jax.pruning.criteria.reduction import OVER, REDUCTIONS, reduced_over_slices
from prune_jax.pruning.criteria.weights import Scores, producer_mean, scored_leaves
from prune_jax.pruning.evidence import NEEDS, Evidence
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.layouts.unstructured import is_kernel

CHANNELS_ONLY = (
    "scores whole channels, so it can't rank single weights; use granularity 'filter', or a criterion of unit 'weight' "
    "such as 'l1'"
)
WEIGHTS_ONLY = (
    "scores single weights and says nothing of channels; use granularity 'unstructured', or a criterion of channels "
    "such as 'channel_lasso' or 'l1'"
)


class Criterion(NamedTuple):
    """Importance as a function of evidence, with what it needs.

    Attributes:
      score: the function. Of unit 'weight': ``Evidence`` -> leaf path -> one number per weight, for the
        leaves of ``weights.scored_leaves``. Of unit 'channel': ``Evidence`` -> group name -> (channels,),
        for groups that aren't frozen.
      unit: what one number of ``score`` speaks of. Weights serve every granularity, channels 'filter' and
        'head'.
      needs: names of fields of ``Evidence`` besides params and groups.
      channels: of unit 'weight', the scores of channels (like ``score`` of unit 'channel') where they aren't
        the mean over the producer's weights.
      slices: of unit 'channel', whether the score looks at the part of ``group.producer`` alone, so that each coupled
        slice can be asked for in its place. Of unit 'weight' it can be in any case.
      unfit: why a group can't be scored, in words, or ''. A config with such a group is refused before any work.
      compensate: changes weights after the choice, where that is part of the method: a function of the evidence
        and of the keep (unit 'channel') or mask (unit 'weight') that returns params like the evidence's, before
        anything is cut or masked.
      weights_only: of unit 'weight', whether the scores say nothing of channels.
      whole: of unit 'weight', whether ``channels`` looks at a channel as a whole, not at a slice of a kernel.

    Example:
      >>> size = Criterion(lambda evidence: {"w": abs(evidence.params["w"])}, "weight")
      >>> size.score(Evidence({"w": -2.0}))
      {'w': 2.0}
    """

    score: Callable[[Evidence], Scores]
    unit: Literal["weight", "channel"]
    needs: frozenset[str] = frozenset()
    channels: Callable[[Evidence], Scores] | None = None
    slices: bool = False
    unfit: Callable[[Group], str] | None = None
    compensate: Callable[[Evidence, Any], Any] | None = None
    weights_only: bool = False
    whole: bool = False


def channel_scores(
    criterion: Criterion, evidence: Evidence, *, over: str = "producer", reduce: str = "mean"
) -> Scores:
    """Scores of channels, for granularities that cut them ('filter', 'head').

    Args:
      criterion: of any unit.
      evidence: with all that the criterion needs, and with groups.
      over: 'producer' looks at the weights that make a channel (arXiv 2301.05219), 'coupled' at every kernel that
        makes or reads it (arXiv 2301.12900): each is scored as if it were the producer.
      reduce: of 'coupled', how the slices' scores become one: 'mean', 'sum', 'max', 'product', or 'first', the
        producer's.

    Returns:
      Group name -> scores (channels,), for groups that aren't frozen. float64 NumPy outside of a trace.

    Raises:
      KeyError: params lack a group's producer.
      ValueError: the evidence lacks what the criterion needs, or the criterion can't score slices or channels.

    Example:
      >>> import numpy as np
      >>> from prune_jax.pruning.coupling import find_groups
      >>> from prune_jax.pruning.criteria.table import CRITERIA
      >>> params = {"a": np.array([[1.0, -3.0]]), "b": np.array([[5.0], [-4.0]])}
      >>> facts = Evidence(params, find_groups(lambda p, x: x @ p["a"] @ p["b"], params, np.ones((1, 1))))
      >>> channel_scores(CRITERIA["l1"], facts)["a"].tolist()
      [1.0, 3.0]
      >>> channel_scores(CRITERIA["l1"], facts, over="coupled", reduce="max")["a"].tolist()
      [5.0, 4.0]
    """
    if criterion.weights_only:
        raise ValueError(f"criterion {name_of(criterion)!r} {WEIGHTS_ONLY}")
    _check(criterion, evidence)
    refuse_over(criterion, over, reduce)
    if over == "producer":
        return _of_producers(criterion, evidence)
    if criterion.unit == "weight" and criterion.channels is None:
        weights = criterion.score(evidence)  # once for all slices
        return reduced_over_slices(lambda facts: producer_mean(weights, facts.groups), evidence, reduce)
    return reduced_over_slices(lambda facts: _of_producers(criterion, facts), evidence, reduce)


def _of_producers(criterion: Criterion, evidence: Evidence) -> Scores:
    if criterion.unit == "channel":
        return criterion.score(evidence)
    if criterion.channels is not None:
        return criterion.channels(evidence)
    return producer_mean(criterion.score(evidence), evidence.groups)


def scores_slices(criterion: Criterion) -> bool:
    """Whether the criterion can score each coupled slice of a channel by itself."""
    return (
        criterion.slices if criterion.unit == "channel" else not (criterion.whole or criterion.weights_only)
    )


def refuse_over(
    criterion: Criterion, over: str, reduce: str, keys: tuple[str, str] = ("over", "reduce")
) -> None:
    """Raise ValueError, in one line, for slices that a criterion can't score and words that aren't known.

    Args:
      criterion: the criterion.
      over: see ``channel_scores``.
      reduce: see there.
      keys: what a message calls the two.
    """
    for key, value, known in zip(keys, (over, reduce), (OVER, tuple(REDUCTIONS)), strict=True):
        if value not in known:
            raise ValueError(f"{key} is {value!r}; choose one of {', '.join(map(repr, known))}")
    if over == "producer" and reduce != "mean":
        raise ValueError(
            f"{keys[1]} is {reduce!r}, which makes one score of several slices, and {keys[0]} 'producer' is one slice; "
            f"choose {keys[0]}='coupled', or leave {keys[1]} out"
        )
    if over == "coupled" and not scores_slices(criterion):
        raise ValueError(
            f"{keys[0]} is 'coupled', but criterion {name_of(criterion)!r} scores a channel as a whole, not the slices "
            f"of its kernels; choose {keys[0]}='producer', or a criterion of weights such as 'l1'"
        )


def weight_scores(criterion: Criterion, evidence: Evidence) -> Scores:
    """Scores of single weights, for granularities that mask them ('unstructured', 'block', 'N:M').

    Args:
      criterion: of unit 'weight'.
      evidence: with all that the criterion needs. Groups may be empty.

    Returns:
      Leaf path -> scores of the leaf's shape, for every kernel of the params that the criterion can score.

    Raises:
      ValueError: the criterion's unit is 'channel', or the evidence lacks what it needs.
    """
    if criterion.unit != "weight":
        raise ValueError(f"criterion {name_of(criterion)!r} {CHANNELS_ONLY}")
    _check(criterion, evidence)
    kernels = [path for path, leaf in scored_leaves(evidence).items() if is_kernel(leaf)]
    scores = criterion.score(evidence)
    return {path: scores[path] for path in kernels if path in scores}


def name_of(criterion: Criterion) -> str:
    """The name of the criterion's function."""
    return getattr(criterion.score, "__name__", repr(criterion.score))


def unfit(criterion: Criterion, groups: Sequence[Group]) -> tuple[str, str] | None:
    """The first of the groups that the criterion can't score, and why. None where it can score all."""
    found = ((group.name, criterion.unfit(group)) for group in groups if criterion.unfit is not None)
    return next((pair for pair in found if pair[1]), None)


def missing(criterion: Criterion, available: frozenset[str] | set[str]) -> tuple[str, ...]:
    """Which of a criterion's needs aren't available, in alphabetical order: refuse it before any work.

    Raises ValueError for a need that is no field of ``Evidence``.
    """
    unknown = sorted(criterion.needs - NEEDS)
    if unknown:
        raise ValueError(
            f"criterion {name_of(criterion)!r} needs {unknown[0]!r}, which no evidence has; "
            f"needs are among {', '.join(sorted(NEEDS))}"
        )
    return tuple(sorted(criterion.needs - available))


def _check(criterion: Criterion, evidence: Evidence) -> None:
    given = {field for field in NEEDS if getattr(evidence, field) is not None}
    lacks = missing(criterion, given)
    if lacks:
        what = "a PRNG key, Evidence(..., key=jax.random.key(seed))" if lacks[0] == "key" else repr(lacks[0])
        raise ValueError(f"criterion {name_of(criterion)!r} needs {what}; the evidence lacks it")
