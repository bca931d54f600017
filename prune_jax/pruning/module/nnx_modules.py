"""NNX modules taken apart into a function and its variables, and made again with small ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import nnx

from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.module import sizes, wrapper
from prune_jax.pruning.module.remake import Cut, Remade


class Taken(NamedTuple):
    """An NNX module taken apart.

    Attributes:
      definition: its graph definition, in the mode it was given in.
      state: its state.
      evaluated: the module in evaluation mode, from variables.
      apply: its call in evaluation mode.
      variables: its whole state as a pure dict.
      params: paths of its ``nnx.Param`` leaves.
      types: leaf path -> (path, variable), as nnx filters look at them.
    """

    definition: Any
    state: Any
    evaluated: Callable[[Any], nnx.Module]
    apply: Callable[..., Any]
    variables: Any
    params: frozenset[str]
    types: dict[str, tuple[Any, Any]]


def taken_apart(module: nnx.Module) -> Taken:
    """The module's functions and variables. The module itself stays as it is."""
    definition, state = nnx.split(module)
    seen = in_evaluation(definition, state)
    variables = nnx.to_pure_dict(state)

    def evaluated(variables: Any) -> nnx.Module:
        return nnx.merge(seen, variables)

    def apply(variables: Any, *inputs: Any) -> Any:
        return evaluated(variables)(*inputs)

    types = {"/".join(map(str, path)): (path, variable) for path, variable in nnx.to_flat_state(state)}
    params = frozenset(path for path, (_, variable) in types.items() if isinstance(variable, nnx.Param))
    return Taken(definition, state, evaluated, apply, variables, params, types)


def remade(taken: Taken, cut: Cut) -> Remade:
    """The small module of the same class, proved by value, or a wrapper of the twin that says why."""
    reasons: list[str] = []
    for rewritten in sizes.rewritings(filled(taken, cut.dense), cut, lambda: filled(taken, cut.small)):
        apply = cut.bind(evaluation(rewritten))
        reason = cut.differs(apply)
        if reason is None:
            return Remade(rewritten, apply, None)
        reasons.append(reason)
    return Remade(wrapper.wrapped(filled(taken, cut.small), cut), cut.twin, reasons[0])


def filled(taken: Taken, variables: Any) -> nnx.Module:
    """The module as its class is, with other arrays in it."""
    values = dict(leaf_paths(variables))
    flat = [(p, _with(v, values["/".join(map(str, p))])) for p, v in nnx.to_flat_state(taken.state)]
    return nnx.merge(taken.definition, nnx.from_flat_state(flat))


def _with(holder: Any, value: Any) -> Any:
    """A variable with another value. A state may hold bare arrays too."""
    return holder.replace(value) if isinstance(holder, nnx.Variable) else value


def evaluation(module: nnx.Module) -> Callable[..., Any]:
    """The module's call in evaluation mode as ``apply(variables, *inputs)``."""
    definition = in_evaluation(*nnx.split(module))
    return lambda variables, *inputs: nnx.merge(definition, variables)(*inputs)


def in_evaluation(definition: Any, state: Any) -> Any:
    """The graph definition of the same module in evaluation mode."""
    module = nnx.merge(definition, state)
    module.eval()
    return nnx.graphdef(module)
