"""An optimiser's state cut along with the network it trains."""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import nnx

from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.surgery import shrink


def cut_along(optimizer: Any, model: Any, groups: Sequence[Group], keep: Mapping[str, Any]) -> Any:
    """The optimiser for the small network.

    Args:
      optimizer: an optax state, or an ``nnx.Optimizer`` (``nnx.ModelAndOptimizer`` too). None gives None. It is left as
        it is.
      model: the small model, for an optimiser that holds it.
      groups: of the network as it is.
      keep: the decision.
    """
    if optimizer is None:
        return None
    if not isinstance(optimizer, nnx.Optimizer):
        return shrink(optimizer, groups, keep)
    definition, state = nnx.split(optimizer)
    small = shrink(nnx.to_pure_dict(state), groups, keep)
    nnx.replace_by_pure_dict(state, small)
    new: Any = nnx.merge(definition, state)
    if "model" in vars(new):
        new.model = model
    return new
