"""A module as pure functions over plain dicts, the form in which everything else meets it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx

Variables = dict[str, Any]


class Network(NamedTuple):
    """A network without state.

    variables: {'params': nested dict, 'batch_stats': nested dict, empty without batch norm}.
    apply(variables, x) -> logits, evaluation mode.
    apply_train(variables, x) -> (logits, new batch_stats), batch statistics of x.
    """

    variables: Variables
    apply: Callable[[Variables, jax.Array], jax.Array]
    apply_train: Callable[[Variables, jax.Array], tuple[jax.Array, dict[str, Any]]]


def functional(module: nnx.Module) -> Network:
    """Takes `module` apart: its variables, and its call in both modes.

    Lists of layers become dicts with integer keys. Leaves of another size than the module was
    built with are fine as long as they fit each other, so pruned variables run as they are; on a
    module without arrays (`abstract`) the variables are ShapeDtypeStructs. Call the functions
    inside a trace (jit, grad, eval_shape): each call rebuilds the module.
    Raises ValueError if the module holds state that is neither parameter nor batch statistic.
    """
    graphdef, *states = nnx.split(module, nnx.Param, nnx.BatchStat, ...)
    params, stats, rest = states
    if jax.tree.leaves(rest):
        raise ValueError(
            f"{type(module).__name__} holds {sorted(nnx.to_pure_dict(rest))}, which are neither nnx.Param "
            "nor nnx.BatchStat; a network here has no other state"
        )

    def apply(variables: Variables, x: jax.Array) -> jax.Array:
        net: Any = nnx.merge(graphdef, variables["params"], variables["batch_stats"])
        return net(x, train=False)

    def apply_train(variables: Variables, x: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        net: Any = nnx.merge(graphdef, variables["params"], variables["batch_stats"])
        logits = net(x, train=True)
        return logits, nnx.to_pure_dict(nnx.state(net, nnx.BatchStat))

    variables = {"params": nnx.to_pure_dict(params), "batch_stats": nnx.to_pure_dict(stats)}
    return Network(variables, apply, apply_train)
