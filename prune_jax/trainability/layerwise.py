"""The instruments on a part of a network, from stage to stage, to see where trainability is lost."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from prune_jax.nearest import unknown
from prune_jax.trainability.jacobian import Apply, jacobian_singular_values

Stage = tuple[str, Callable[[jax.Array], jax.Array]]
Measure = Callable[[Apply, jax.Array], Any]


class Part(NamedTuple):
    """A part of a network at a batch: what every instrument takes, so ``jacobian_singular_values(*part)``.

    apply: ``(batch, ...) -> (batch, K)``, the part's outputs flattened per example.
    x: ``(batch, ...)``, what enters the part when the network sees the batch.
    """

    apply: Apply
    x: jax.Array


class StageMeasure(NamedTuple):
    """One measurement of a stage alone, and of everything from the network's input to its end."""

    stage: Any
    cumulative: Any


def stage_part(
    stages: Sequence[Stage], x: jax.Array, source: str | None = None, target: str | None = None
) -> Part:
    """The part from behind stage ``source`` (default: the input x) through stage ``target`` (the end).

    ``stages`` are ``(name, function)`` pairs whose composition is the network, each mapping (batch, ...)
    to (batch, ...) and treating examples independently. Raises ValueError for no stages, a repeated or
    unknown name (the nearest one is named), or a target that doesn't come behind its source.
    """
    names = _names(stages)
    start = 0 if source is None else _index(names, source) + 1
    stop = len(names) if target is None else _index(names, target) + 1
    if start >= stop:
        raise ValueError(
            f"stage {target or names[-1]!r} doesn't come behind {source!r}; the order is {', '.join(names)}"
        )
    functions = [function for _, function in stages]
    return Part(_flat(_composed(functions[start:stop]), names[stop - 1]), _composed(functions[:start])(x))


def measure_stages(
    stages: Sequence[Stage], x: jax.Array, *, measure: Measure = jacobian_singular_values
) -> OrderedDict[str, StageMeasure]:
    """``{stage: (stage, cumulative)}`` in the network's order: each stage at its own inputs, and all so far.

    ``measure(apply, x)`` is any instrument, by default the exact Jacobian singular values: ``(batch,
    min(K, D))`` of a stage with D values in and K out, at K pull-backs, so give a matrix-free one for wide
    feature maps. By the chain rule an example's Jacobians multiply to the whole; a stage whose values fall
    is where pruning broke it. Arguments and errors as ``stage_part``.
    """
    out: OrderedDict[str, StageMeasure] = OrderedDict()  # keeps the order through jit, a dict is sorted
    before = None
    for name in _names(stages):
        alone, whole = stage_part(stages, x, before, name), stage_part(stages, x, None, name)
        out[name] = StageMeasure(measure(*alone), measure(*whole))
        before = name
    return out


def per_example(values: Any, batch: int, name: str) -> jax.Array:
    """``(batch, K)``: one array flattened per example. ValueError naming what else came out of ``name``."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(values)]
    if not isinstance(values, jax.Array):
        raise ValueError(
            f"{name!r} gives a {type(values).__name__} of {len(shapes)} arrays; a Jacobian needs one array"
        )
    if values.ndim < 2 or values.shape[0] != batch:
        raise ValueError(
            f"{name!r} gives shape {values.shape} for {batch} examples; axis 0 must be the examples, with "
            "at least one more axis"
        )
    return values.reshape(batch, -1)


def _names(stages: Sequence[Stage]) -> list[str]:
    names = [name for name, _ in stages]
    if not names:
        raise ValueError("no stages: give (name, function) pairs whose composition is the network")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"stage names must differ, {', '.join(map(repr, repeated))} came more than once")
    return names


def _index(names: list[str], name: str) -> int:
    if name not in names:
        raise ValueError(unknown("stage", name, names, most=3))
    return names.index(name)


def _composed(functions: Sequence[Callable[[jax.Array], jax.Array]]) -> Apply:
    def apply(x: jax.Array) -> jax.Array:
        for function in functions:
            x = function(x)
        return x

    return apply


def _flat(apply: Apply, name: str) -> Apply:
    return lambda x: per_example(apply(x), x.shape[0], name)
