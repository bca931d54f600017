"""Masks layer after layer: each from the inputs that the pruned layers before it produce."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from prune_jax.pruning.criteria.criterion import Criterion, weight_scores
from prune_jax.pruning.evidence import gatherer
from prune_jax.pruning.inputs.products import traced
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
    mask = jax.tree.map(lambda leaf: np.ones((1,) * np.ndim(leaf), bool), params)
    for patterns in steps:
        evidence = look(params, batches, key)
        new = mask_of(params, weight_scores(criterion, evidence), granularity, ratio, where=tuple(patterns))
        if compensate and criterion.compensate is not None:
            params = criterion.compensate(evidence, new)
        params, mask = apply_mask(params, new), jax.tree.map(np.logical_and, mask, new)
    return params, mask


def _one_by_one(
    apply: Callable[[Any, Any], Any], params: Any, batches: Sequence[Any]
) -> list[tuple[str, ...]]:
    """A step for each kernel, in the order of the trace."""
    if not batches:
        raise ValueError("without batches the order of the layers is unknown; name it in steps")
    names = {path: name for name, path in kernels(params).items()}
    return [(names[path],) for path in traced(apply, params, batches[0]).products if path in names]


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
