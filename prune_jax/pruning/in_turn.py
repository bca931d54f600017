"""Masks layer after layer: each from the inputs that the pruned layers before it produce."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from prune_jax.pruning.criteria.criterion import Criterion, weight_scores
from prune_jax.pruning.evidence import Evidence, gatherer
from prune_jax.pruning.inputs.products import traced
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.layouts.naming import mask_of
from prune_jax.pruning.layouts.unstructured import chosen, kernels
from prune_jax.pruning.masks import apply_mask


def mask_in_turn(
    apply: Callable[[Any, Any], Any],
    params: Any,
    batches: Iterable[Any],
    *,
    criterion: Criterion,
    granularity: str = "unstructured",
    ratio: float | None = None,
    steps: Sequence[Sequence[str]] = (),
    compensate: bool = True,
    loss: Callable[[Any, Any], Any] | None = None,
    key: jax.Array | None = None,
) -> tuple[Any, Any]:
    """Mask a network's kernels step by step. What a step looks at is gathered with the steps before it carried out.

    Args:
      apply: ``apply(params, batch)`` -> outputs, any traceable function.
      params: any pytree of arrays.
      batches: calibration batches, gone through once for each step.
      criterion: one of unit 'weight', such as ``CRITERIA['sparsegpt']``.
      granularity: 'unstructured', or a pattern such as '2:4', along a kernel's inputs.
      ratio: the fraction removed of each layer. A pattern says it by itself.
      steps: patterns over layers, a tuple for each step, in the order in which data pass through. By default every
        kernel by itself, in the order in which it first meets data.
      compensate: whether weights that stay are changed, by criteria that do.
      loss: ``loss(params, batch)``, for criteria of gradients.
      key: for criteria that draw.

    Returns:
      ``(params, mask)``: params with exact zeros, and a pytree like them of boolean arrays, True where a weight stays.

    Raises:
      ValueError: there are no batches, a pattern fits no layer, or a layer is in two steps.

    Source: Frantar and Alistarh, ICML 2023, arXiv 2301.00774, and Sun et al., ICLR 2024, arXiv 2306.11695. Both prune
    the layers of a transformer one after another.
    """
    batches = list(batches)
    if criterion.needs and not batches:
        raise ValueError(
            "there are no calibration batches to prune layer after layer with; give at least one"
        )
    steps = steps or _one_by_one(apply, params, batches)
    _refuse_twice(params, steps)
    look = gatherer(criterion.needs, apply=apply, loss=loss)

    def choose(evidence: Evidence, patterns: tuple[str, ...], before: Any) -> Any:
        scores = weight_scores(criterion, evidence)
        return mask_of(evidence.params, scores, granularity, ratio, where=patterns, before=before)

    change = criterion.compensate if compensate else None
    return masked_in_turn(params, steps, lambda held: look(held, batches, key), choose, change)


def masked_in_turn(
    params: Any,
    steps: Sequence[Sequence[str]],
    look: Callable[[Any], Evidence],
    choose: Callable[[Evidence, tuple[str, ...], Any], Any],
    compensate: Callable[[Evidence, Any], Any] | None = None,
    before: Any = None,
) -> tuple[Any, Any]:
    """Mask layers step by step: what ``mask_in_turn`` does with its own way of looking and choosing.

    Args:
      params: any pytree of arrays.
      steps: patterns over layers, a tuple for each step.
      look: params, of which those of earlier steps are masked -> what is known of them.
      choose: (evidence, the step's patterns, the mask ``before``) -> a mask like the params. Its layers of other steps
        aren't read. Of kernels' inputs the evidence holds those of the step's layers alone.
      compensate: (evidence, mask) -> params, in which weights that stay may have changed. None: they stay as they are.
      before: an earlier mask of these params.

    Returns:
      ``(params, mask)``, as ``mask_in_turn``.
    """
    mask = _all_stay(params) if before is None else before
    for patterns in map(tuple, steps):
        paths = set(chosen(params, patterns).values())
        evidence = _of_kernels(look(params), paths)
        new = _alone(choose(evidence, patterns, before), params, paths)
        if compensate is not None:
            params = compensate(evidence, new)
        params, mask = apply_mask(params, new), jax.tree.map(np.logical_and, mask, new)
    return params, mask


def in_order(apply: Callable[..., Any], params: Any, *inputs: Any) -> list[str]:
    """Paths of kernels in the order in which they first meet data, as far as the trace can follow them.

    Args:
      apply: ``apply(params, *inputs)``, any traceable function.
      params: any pytree of arrays, or of their shapes and dtypes.
      *inputs: the same.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"a": jnp.ones((3, 3)), "b": jnp.ones((2, 3))}
      >>> in_order(lambda p, x: x @ p["b"] @ p["a"], params, jnp.ones((1, 2)))
      ['b', 'a']
    """
    return list(traced(apply, params, *inputs).products)


def _all_stay(params: Any) -> Any:
    return jax.tree.map(lambda leaf: np.ones((1,) * np.ndim(leaf), bool), params)


def _of_kernels(evidence: Evidence, paths: set[str]) -> Evidence:
    """The evidence with the inputs of these kernels alone, so that no other is scored."""

    def alone(known: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        return known and {path: one for path, one in known.items() if path in paths}

    return evidence._replace(inputs=alone(evidence.inputs), input_grams=alone(evidence.input_grams))


def _alone(mask: Any, params: Any, paths: set[str]) -> Any:
    """The mask with nothing masked but leaves at these paths."""
    stays = dict(leaf_paths(_all_stay(params)))
    leaves = [one if path in paths else stays[path] for path, one in leaf_paths(mask)]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _one_by_one(
    apply: Callable[[Any, Any], Any], params: Any, batches: Sequence[Any]
) -> list[tuple[str, ...]]:
    """A step for each kernel, in the order of the trace."""
    if not batches:
        raise ValueError("without batches the order of the layers is unknown; name it in steps")
    names = {path: name for name, path in kernels(params).items()}
    return [(names[path],) for path in in_order(apply, params, batches[0]) if path in names]


def _refuse_twice(params: Any, steps: Sequence[Sequence[str]]) -> None:
    seen: dict[str, int] = {}
    for number, patterns in enumerate(steps):
        for name in chosen(params, tuple(patterns)):
            if name in seen:
                raise ValueError(
                    f"layer {name!r} is in steps {seen[name]} and {number}; each layer is masked once: name it "
                    "in one"
                )
            seen[name] = number
