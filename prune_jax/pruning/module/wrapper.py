"""A module whose code can't run at small sizes, called through the small twin of that code."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from prune_jax.pruning.module.remake import Cut
from prune_jax.pruning.module.static_inputs import bound
from prune_jax.pruning.surgery import slim


def wrapped(module: nnx.Module, cut: Cut) -> nnx.Module:
    """The module, of a new class below its own: the same variables under the same paths, another call.

    Args:
      module: its arrays are the small ones, its attributes those of the dense module.
      cut: the decision.

    Returns:
      The module. In any mode its call traces the dense class's code, and runs it at the small sizes. State that the
      call changes (batch statistics, counts of random draws) is written back.
    """
    dense_class: Any = type(module)
    known: dict[Any, Callable[..., Any]] = {}

    def call(self: Any, *inputs: Any, **options: Any) -> Any:
        definition, state = nnx.split(self)
        arrays, bind = bound(inputs)

        @bind
        def run(variables: Any, *inputs: Any) -> tuple[Any, Any]:
            dense = nnx.merge(definition, variables)
            out = dense_class.__call__(dense, *inputs, **options)
            return out, _changed(variables, nnx.to_pure_dict(nnx.state(dense)))

        key = (definition, len(arrays), tuple(sorted(options.items())))
        if key not in known:
            known[key] = slim(
                run, cut.dense, cut.groups, cut.keep, *_dense(arrays, cut), free=cut.network.free
            )
        out, changed = known[key](nnx.to_pure_dict(state), *arrays)
        if changed:
            nnx.update(self, changed)
        return out

    call.__name__ = "__call__"  # tabulate names it
    body = {"__call__": call, "__module__": dense_class.__module__, "__doc__": dense_class.__doc__}
    small_class = type(dense_class)(f"Small{dense_class.__name__}", (dense_class,), body)
    module.__class__ = small_class
    return module


def _dense(arrays: tuple[Any, ...], cut: Cut) -> Any:
    """Shapes of the inputs with the channels that free inputs have lost."""
    if "inputs" not in cut.network.free:
        return arrays
    return jax.tree.map(
        lambda x, dense: jax.ShapeDtypeStruct((*x.shape[:-1], *dense.shape[-1:]), x.dtype),
        arrays,
        cut.network.inputs,
    )


def _changed(before: Any, after: Any) -> dict[Any, Any]:
    """The part of a nested dict whose leaves aren't the very same arrays."""
    out = {}
    for name, new in after.items():
        if isinstance(new, dict):
            part = _changed(before[name], new)
            if part:
                out[name] = part
        elif new is not before[name]:
            out[name] = new
    return out
