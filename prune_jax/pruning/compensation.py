"""Weights that a criterion changes besides choosing, before anything is cut or masked."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from prune_jax.pruning.criteria.criterion import Criterion, name_of
from prune_jax.pruning.evidence import Evidence
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.keep import cuts

Look = Callable[[Any], Evidence]  # variables -> what is known of the network with them


def compensated(criterion: Criterion, evidence: Evidence, decision: Any, what: str = "") -> Any:
    """The params after a criterion's compensation, of the sizes that they had.

    Args:
      criterion: one without a compensation leaves the params as they are.
      evidence: what the choice was made from.
      decision: the choice: a keep of channels, or a mask like the params.
      what: how a message begins, such as "criterion is 'flap'".

    Returns:
      A pytree like ``evidence.params``. The pruned channels or weights are still to be cut or masked.

    Raises:
      ValueError: the compensation returned another tree, or leaves of other shapes.

    Example:
      >>> from prune_jax.pruning.criteria.table import CRITERIA
      >>> compensated(CRITERIA["l1"], Evidence({"a": 1.0}), {})
      {'a': 1.0}
    """
    if criterion.compensate is None:
        return evidence.params
    params = criterion.compensate(evidence, decision)
    before, after = (
        {path: np.shape(leaf) for path, leaf in leaf_paths(tree)} for tree in (evidence.params, params)
    )
    for path in [*before, *after]:
        if before.get(path) != after.get(path):
            raise ValueError(
                f"{what or f'criterion is {name_of(criterion)!r}'}, whose compensation returned "
                f"{_leaf(path, after)}; it must return params like the evidence's, with {_leaf(path, before)}"
            )
    return params


def _leaf(path: str, shapes: Mapping[str, Any]) -> str:
    return f"leaf {path!r} of shape {shapes[path]}" if path in shapes else f"no leaf {path!r}"


def keeping_first(look: Look) -> tuple[Look, list[Evidence]]:
    """Wrap ``look`` so that the first thing that it returns is kept, in the list that is returned beside it.

    The network before anything is pruned is what a compensation comes back to, however often the criterion
    looks again.
    """
    first: list[Evidence] = []

    def looking(variables: Any) -> Evidence:
        found = look(variables)
        first.extend([] if first else [found])
        return found

    return looking, first


def grown(whole: Any, small: Any, groups: Sequence[Group], keep: Mapping[str, Any]) -> Any:
    """The large tree with the leaves of the small one at the places that ``keep`` leaves.

    Args:
      whole: params for which the groups were found.
      small: what ``shrink(whole, groups, keep)`` gives, with other numbers.
      groups: of the large network.
      keep: group name -> indices of channels that stay.

    Returns:
      A tree like ``whole``. What ``keep`` removes is as it was.
    """
    wanted, inside = cuts(groups, keep), dict(leaf_paths(small))

    def one(path: str, leaf: Any) -> Any:
        if path not in wanted:
            return inside[path]
        array = np.array(leaf)
        stays = [wanted[path].get(axis, np.ones(n, bool)) for axis, n in enumerate(array.shape)]
        array[np.ix_(*stays)] = np.asarray(inside[path])
        return jax.device_put(array) if isinstance(leaf, jax.Array) else array

    return jax.tree.unflatten(
        jax.tree.structure(whole), [one(path, leaf) for path, leaf in leaf_paths(whole)]
    )
