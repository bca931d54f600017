"""A regulariser of the user's own, ``config.regularise.name = 'my_parts:flat_norms'``, in the form of the others."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from prune_jax.experiment.own.parts import call_own, is_own, load_object
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.regularizers.channels import wide
from prune_jax.pruning.regularizers.penalty import Leaves, Penalty
from prune_jax.pruning.regularizers.table import REGULARIZERS, Regularizer

KEY = "regularise.name"


def regularizer_of(name: str) -> Regularizer:
    """The regulariser that a config names: one of the table, or the user's own.

    Args:
        name: a name of the table, or a reference ``module:function``. What it refers to is a ``Regularizer``, or a
            function ``penalty(leaves, groups, **arguments)`` that returns a scalar. ``leaves`` are the trained arrays
            by name, ``groups`` the coupled groups that are to be pruned, whose members have these names.

    Returns:
        The regulariser. What an own function raises becomes a ValueError of one line.

    Raises:
        ValueError: in one line, as ``load_object``, and for what is neither.
    """
    if not is_own(name):
        return REGULARIZERS[name]
    found = load_object(name, KEY)
    if isinstance(found, Regularizer):
        make = functools.wraps(found.make)(functools.partial(call_own, found.make, name, KEY))
        return found._replace(make=make)
    if not callable(found):
        raise ValueError(
            f"{KEY} is {name!r}, which is of type {type(found).__name__}; it must be a function of leaves and groups "
            "or a Regularizer"
        )
    return Regularizer(functools.partial(_penalty, found, name))


def _penalty(
    function: Callable[..., Any],
    name: str,
    groups: Sequence[Group],
    *,
    strength: float = 1e-4,
    **arguments: Any,
) -> Penalty:
    """The penalty ``strength`` times an own function, its gradient by automatic differentiation."""

    def value(_: tuple[()], leaves: Leaves) -> jax.Array:
        found = call_own(function, name, KEY, dict(leaves), groups, **arguments)
        if jnp.shape(found) != ():
            raise ValueError(
                f"{KEY} is {name!r}, which returned shape {jnp.shape(found)}; a penalty is a scalar"
            )
        return strength * found

    def gradient(state: tuple[()], leaves: Leaves) -> dict[str, jax.Array]:
        floats = {
            path: wide(leaf) for path, leaf in leaves.items() if jnp.issubdtype(leaf.dtype, jnp.inexact)
        }
        return jax.grad(lambda mine: value(state, {**leaves, **mine}))(floats)

    return Penalty(groups, lambda leaves: (), lambda state, leaves, step: state, value, gradient)
