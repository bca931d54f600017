"""Whether a criterion, which may be a user's own function, returned scores of all that is to be pruned."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from prune_jax.pruning.criteria.weights import Scores, on_host, prunable, scored_leaves
from prune_jax.pruning.evidence import Evidence
from prune_jax.pruning.jaxpr.groups import Group

# Why a criterion that needs a field of the evidence may have no scores of a group.
WHY: Mapping[str, str] = MappingProxyType(
    {
        "map_ranks": "no convolution over two axes makes it, so that it has no feature maps",
        "inputs": "no kernel that reads it meets data where a trace can follow",
        "input_grams": "no kernel that reads it meets data where a trace can follow",
    }
)


def checked_scores(
    scores: Any,
    groups: Sequence[Group],
    what: str,
    layers: str,
    *,
    finite: bool = True,
    needs: frozenset[str] = frozenset(),
) -> Scores:
    """What a criterion returned, as NumPy arrays of the groups that are to be pruned.

    Args:
      scores: by group name, from a function that may be a user's own.
      groups: those that need scores.
      what: how a message begins, such as "criterion is 'rank'".
      layers: the argument or key that names the groups.
      finite: whether NaN is refused.
      needs: fields of evidence that the criterion needs. Some of them explain missing scores.

    Returns:
      Group name -> scores (channels,).

    Raises:
      ValueError: in one line, for something else than a dict, a group without scores, another number of them than
        channels, numbers that aren't real, and NaN.

    Example:
      >>> checked_scores({}, [], "criterion is 'rank'", "layers")
      {}
    """
    table = _table(scores, f"{what}, which returned", "group name")
    out: Scores = {}
    for group in groups:
        if group.name not in table:
            raise ValueError(f"{what}, which {_missing(table, group.name, layers, needs)}")
        size = f"it has {group.size} channels, so ({group.size},)"
        found = _one(table[group.name], group.name, (group.size,), what, size)
        if finite:
            refuse_nan({group.name: found}, what, "channel")
        out[group.name] = found
    return out


def _missing(scores: Mapping[str, Any], name: str, layers: str, needs: frozenset[str]) -> str:
    why = next((WHY[need] for need in sorted(needs) if need in WHY), "")
    if why:
        way_out = f"leave it out of {layers}, or choose a criterion of weights such as 'l1'"
        return f"has no scores of {name}: {why}; {way_out}"
    there = ", ".join(map(str, list(scores)[:8])) or "none"
    return f"returned no scores of {name}, only of {there}; score it, or leave it out of {layers}"


def checked_weights(scores: Any, evidence: Evidence, what: str) -> Scores:
    """What a criterion of weights returned, as arrays in NumPy unless they are traced.

    Args:
      scores: by leaf path, from a function that may be a user's own. It may leave leaves out.
      evidence: what the function was given.
      what: how a message begins, such as "criterion is 'rank'".

    Returns:
      Leaf path -> scores of the leaf's shape, of those leaves that have scores.

    Raises:
      ValueError: in one line, for something else than a dict, a group whose producer has no scores, another shape than
        the leaf's, and numbers that aren't real.

    Example:
      >>> checked_weights({"w": [[1.0, 2.0]]}, Evidence({"w": np.ones((1, 2))}), "criterion is 'rank'")
      {'w': array([[1., 2.]])}
    """
    table, leaves = _table(scores, f"{what}, which returned", "leaf path"), scored_leaves(evidence)
    for group in prunable(evidence.groups):
        if (path := group.producer.path) not in table:
            raise ValueError(
                f"{what}, which returned no scores of {path}, which makes {group.name}; score it"
            )
    return {
        path: _one(table[path], path, leaf.shape, what, f"the leaf's shape is {leaf.shape}")
        for path, leaf in leaves.items()
        if path in table
    }


def refuse_nan(scores: Scores, what: str, unit: str) -> None:
    """Raise ValueError, in one line that begins with ``what``, for scores that rank nothing.

    Example:
      >>> refuse_nan({"a": np.array([1.0, np.nan])}, "criterion is 'rank'", "channel")
      Traceback (most recent call last):
      ValueError: criterion is 'rank', which returned 1 NaN among the 2 scores of a; every channel needs a rank
    """
    for name, found in scores.items():
        lost = 0 if found.dtype.kind in "iub" else int(np.count_nonzero(found != found))
        if lost:
            raise ValueError(
                f"{what}, which returned {lost} NaN among the {found.size} scores of {name}; every {unit} needs a rank"
            )


def _table(scores: Any, start: str, key: str) -> Mapping[str, Any]:
    if not isinstance(scores, Mapping):
        raise ValueError(f"{start} {type(scores).__name__}; it must return a dict: {key} -> scores")
    return scores


def _one(scores: Any, name: str, shape: tuple[int, ...], what: str, right: str) -> Any:
    """The scores of one group or leaf, refused where they aren't real numbers of this shape."""
    found = on_host(scores)
    if found.dtype.kind not in "fiub" and found.dtype.name != "bfloat16":
        raise ValueError(f"{what}, which returned {found.dtype} for {name}; scores are real numbers")
    if found.shape != shape:
        raise ValueError(f"{what}, which returned scores of shape {found.shape} for {name}; {right}")
    return found
