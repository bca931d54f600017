"""Pruning again and again within one sparsifying action: what is left is scored anew each time, in memory.

The network keeps its shapes. What is gone is held at zero by masks, so a scoring function that JAX compiled once
serves all iterations. Channels are cut once, at the end. Scored once, SynFlow and its like empty whole layers (Tanaka
et al., NeurIPS 2020, arXiv 2006.05467, Sec. 4).
"""

import glob
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from prune_jax.pruning.allocation import Normalise
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.keep import Keep
from prune_jax.pruning.layouts.unstructured import chosen
from prune_jax.pruning.masks import apply_mask, expand
from prune_jax.pruning.rounds import cumulative_ratios

Scores = Mapping[str, Any]


def exponential_ratios(gone: float, ratio: float, iterations: int) -> tuple[float, ...]:
    """The pruning ratio after each iteration: what is left shrinks by the same factor every time.

    Args:
      gone: the fraction that is gone before.
      ratio: the fraction that is gone after the last iteration, not below ``gone``.
      iterations: how many there are, at least 1.

    Returns:
      One ratio per iteration, the last exactly ``ratio``.

    Source: arXiv 2006.05467, Algorithm 1: a fraction rho ** (k / n) is left after iteration k of n.

    Example:
      >>> exponential_ratios(0.0, 0.75, 2)
      (0.5, 0.75)
    """
    if gone >= ratio:
        return (ratio,) * iterations
    parts = cumulative_ratios(1 - (1 - ratio) / (1 - gone), iterations, "geometric")
    return (*(gone + (1 - gone) * part for part in parts[:-1]), ratio)


def mask_ratios(
    params: Any,
    ratio: float | Mapping[str, float],
    iterations: int,
    *,
    scope: str = "layer",
    where: Sequence[str] = ("*",),
    before: Any = None,
) -> list[Any]:
    """The ratios of ``unstructured_mask`` after each iteration.

    Args:
      params: any pytree of arrays.
      ratio: after the last iteration. See ``unstructured_mask``, as the others.
      iterations: how many there are, at least 1.
      scope: 'layer' or 'global'.
      where: patterns over layer names.
      before: an earlier mask of these params: each layer goes on from what it lost before.

    Returns:
      One ratio per iteration, or one mapping of patterns to ratios.
    """
    if iterations == 1:
        return [ratio]
    leaves, masks = dict(leaf_paths(params)), dict(leaf_paths(before)) if before is not None else {}
    named = chosen(params, where)
    gone = {
        name: 1 - float(np.mean(np.asarray(masks[path]) != 0)) if masks else 0.0
        for name, path in named.items()
    }
    if scope != "layer":
        assert not isinstance(ratio, Mapping)
        sizes = {name: np.size(leaves[path]) for name, path in named.items()}
        together = sum(gone[name] * size for name, size in sizes.items()) / sum(sizes.values())
        return list(exponential_ratios(together, ratio, iterations))
    wanted = ratio if isinstance(ratio, Mapping) else {"*": ratio}
    last = {name: next((r for p, r in wanted.items() if fnmatchcase(name, p)), None) for name in named}
    each = {
        glob.escape(name): exponential_ratios(gone[name], end, iterations)
        for name, end in last.items()
        if end is not None
    }
    return [{name: ratios[k] for name, ratios in each.items()} for k in range(iterations)]


def iterated_mask(
    params: Any,
    score: Callable[[Any], Scores],
    choose: Callable[[Scores, Any, Any], Any],
    steps: Iterable[Any],
    before: Any = None,
) -> Any:
    """The mask of single weights after all steps.

    Args:
      params: any pytree of arrays.
      score: held params -> scores of single weights.
      choose: (scores, a step, the mask so far or None) -> the next mask, which prunes no less.
      steps: what is asked for in each iteration, such as ``mask_ratios``.
      before: the mask to begin with.
    """
    mask = before
    for step in steps:
        held = params if mask is None else apply_mask(params, mask)
        mask = choose(score(held), step, mask)
    return mask


def iterated_keep(
    variables: Any,
    groups: Sequence[Group],
    score: Callable[[Any], Scores],
    choose: Callable[[Scores, Any, Keep], Keep],
    steps: Iterable[Any],
) -> Keep:
    """The keep of channels after all steps. Between them channels are masked, not cut.

    Args:
      variables: of the network.
      groups: of the network. Those that lose channels must be maskable where there are several steps.
      score: held variables -> scores of channels.
      choose: (scores, a step, the keep so far) -> the next keep. Channels that are gone have the score -inf.
      steps: what is asked for in each iteration.
    """
    keep: Keep = {}
    for step in steps:
        held = apply_mask(variables, expand(variables, groups, keep)) if keep else variables
        keep = nested(choose(_last(score(held), keep), step, keep), keep)
    return keep


def nested(keep: Mapping[str, Any], before: Keep) -> Keep:
    """The keep without what is gone before."""
    return {
        name: np.intersect1d(kept, before[name]) if name in before else kept for name, kept in keep.items()
    }


def of_living(normalise: Normalise) -> Normalise:
    """A normaliser that looks at the channels that are left, and lets scores of -inf be."""

    def inner(scores: np.ndarray) -> np.ndarray:
        living = scores > -np.inf
        if living.all():
            return normalise(scores)
        out = np.full(scores.shape, -np.inf)
        out[living] = normalise(scores[living])
        return out

    return inner


def refuse_unmaskable(groups: Iterable[Group], iterations: int, key: str = "iterations") -> None:
    """Raise ValueError, in one line, for iterations over groups whose channels no mask can stand for."""
    for group in groups:
        if iterations > 1 and not group.maskable:
            raise ValueError(
                f"{key} is {iterations}, which masks channels in between, but no mask can stand for channels of "
                f"{group.name!r}: {group.unmaskable}; leave it out of layers, or choose 1"
            )


def _last(scores: Scores, keep: Keep) -> Scores:
    """The scores, with -inf for channels that are gone."""
    out = dict(scores)
    for name, kept in keep.items():
        if name in out:
            marks = np.full(np.shape(out[name]), -np.inf)
            marks[kept] = np.asarray(out[name], np.float64)[kept]
            out[name] = marks
    return out
