"""What a penalty is, and how it joins any optax optimiser: before it as a gradient, or behind it as a proximal step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.regularizers.channels import named_leaves_of

Leaves = Mapping[str, jax.Array]  # leaf of the traced params by its path there -> array
Rate = float | jax.Array | Callable[[jax.Array], Any]


class Penalty(NamedTuple):
    """A penalty on weights that may change as training goes on. Every function is pure and can be traced.

    Attributes:
      groups: the coupled groups that it looks at. Names of leaves are those of the groups' members.
      init: ``init(leaves)`` -> the state that it begins with, a pytree of arrays. Which channels are to go may hang
        on the weights at this moment.
      advance: ``advance(state, leaves, count)`` -> the state that step ``count`` (int32, from 0 on) is taken with.
      value: ``value(state, leaves)`` -> the penalty, a float32 scalar.
      gradient: ``gradient(state, leaves)`` -> leaf name -> gradient of ``value``, for the leaves that it moves.
      prox: ``prox(state, leaves, lr)`` -> leaf name -> weights after the proximal step, for a penalty that isn't
        smooth. Then ``gradient`` isn't used for training.
      done: ``done(state)`` -> whether its stop rule says that training towards the cut has ended.
    """

    groups: Sequence[Group]
    init: Callable[[Leaves], Any]
    advance: Callable[[Any, Leaves, jax.Array], Any]
    value: Callable[[Any, Leaves], jax.Array]
    gradient: Callable[[Any, Leaves], dict[str, jax.Array]]
    prox: Callable[[Any, Leaves, Any], dict[str, jax.Array]] | None = None
    done: Callable[[Any], jax.Array] = lambda state: jnp.zeros((), bool)


class PenaltyState(NamedTuple):
    """Where a penalty stands.

    Attributes:
      steps: how many were taken, int32.
      done: whether its stop rule has ended it, bool. It never becomes False again.
      own: what the penalty itself keeps.
    """

    steps: jax.Array
    done: jax.Array
    own: Any


def regularized(
    optimizer: optax.GradientTransformation, penalty: Penalty, learning_rate: Rate | None = None
) -> optax.GradientTransformationExtraArgs:
    """An optimiser that trains under a penalty.

    The penalty's gradient is added before the optimiser, as if it were part of the loss. A penalty with a proximal
    step comes behind the optimiser.

    Args:
      optimizer: any of optax, such as ``optax.sgd(0.1, 0.9)``.
      penalty: what ``regularizers.table.penalty_of`` gives.
      learning_rate: of a proximal step alone: a number, or a function of the step's number, as the optimiser's.

    Returns:
      A transformation whose ``update`` needs the params.

    Raises:
      ValueError: a proximal step without a learning rate.

    Example:
      >>> from prune_jax.pruning.coupling import find_groups
      >>> from prune_jax.pruning.regularizers.table import penalty_of
      >>> params = {"a": jnp.array([[3.0, 0.0], [4.0, 1.0]]), "b": jnp.ones((2, 1))}
      >>> groups = find_groups(lambda p, x: x @ p["a"] @ p["b"], params, jnp.ones((1, 2)))
      >>> optimizer = regularized(optax.sgd(1.0), penalty_of("group_lasso", groups, strength=0.5))
      >>> still = jax.tree.map(jnp.zeros_like, params)
      >>> updates, _ = optimizer.update(still, optimizer.init(params), params)
      >>> float(updates["a"][1, 1])  # half a unit towards zero, along the column
      -0.5
    """
    if penalty.prox is None:
        return optax.chain(added(penalty), optimizer)
    if learning_rate is None:
        raise ValueError(
            "this penalty has a proximal step, which is as long as the learning rate says: pass learning_rate="
        )
    return optax.chain(optimizer, proximal(penalty, learning_rate))


def added(penalty: Penalty) -> optax.GradientTransformationExtraArgs:
    """The penalty's gradient added to the gradient that comes in. It stands before the optimiser.

    Args:
      penalty: without a proximal step.

    Returns:
      A transformation with a ``PenaltyState``. Its ``update`` raises ValueError without the params.
    """

    def update(grads: Any, state: PenaltyState, params: Any = None, **_: Any) -> tuple[Any, PenaltyState]:
        leaves = _leaves(params, penalty)
        state = _advanced(penalty, state, leaves)
        return _plus(grads, penalty.gradient(state.own, leaves), penalty), state

    return optax.GradientTransformationExtraArgs(lambda params: _begun(penalty, params), update)


def proximal(penalty: Penalty, learning_rate: Rate) -> optax.GradientTransformationExtraArgs:
    """The penalty's proximal step behind an optimiser's update. It stands **last** in a chain.

    Args:
      penalty: with a proximal step.
      learning_rate: a number, or a function of the step's number, as the optimiser's.

    Returns:
      A transformation with a ``PenaltyState``. Its ``update`` raises ValueError without the params.
    """

    def update(updates: Any, state: PenaltyState, params: Any = None, **_: Any) -> tuple[Any, PenaltyState]:
        rate = learning_rate(state.steps) if callable(learning_rate) else learning_rate
        state = _advanced(penalty, state, _leaves(params, penalty))
        moved = _leaves(optax.apply_updates(params, updates), penalty)
        assert penalty.prox is not None
        shrunk = penalty.prox(state.own, moved, rate)
        return _plus(updates, {name: leaf - moved[name] for name, leaf in shrunk.items()}, penalty), state

    return optax.GradientTransformationExtraArgs(lambda params: _begun(penalty, params), update)


def is_done(opt_state: Any) -> Any:
    """Whether the penalty within an optimiser's state has ended: an array with the state's leading axes.

    False where there is no penalty.
    """
    found = [
        leaf.done
        for leaf in jax.tree.leaves(opt_state, is_leaf=lambda leaf: isinstance(leaf, PenaltyState))
        if isinstance(leaf, PenaltyState)
    ]
    return found[0] if found else jnp.zeros((), bool)


def _leaves(params: Any, penalty: Penalty) -> dict[str, jax.Array]:
    if params is None:
        raise ValueError("a penalty looks at the weights: call update(grads, state, params)")
    return named_leaves_of(params, penalty.groups)


def _begun(penalty: Penalty, params: Any) -> PenaltyState:
    own = penalty.init(_leaves(params, penalty))
    return PenaltyState(jnp.zeros((), jnp.int32), jnp.zeros((), bool), own)


def _advanced(penalty: Penalty, state: PenaltyState, leaves: Leaves) -> PenaltyState:
    own = penalty.advance(state.own, leaves, state.steps)
    return PenaltyState(state.steps + 1, state.done | penalty.done(own), own)


def _plus(tree: Any, more: Mapping[str, jax.Array], penalty: Penalty) -> Any:
    """A tree like the params with what ``more`` has for some of its leaves added."""
    names = named_leaves_of(tree, penalty.groups)
    leaves = [leaf + more[name].astype(leaf.dtype) if name in more else leaf for name, leaf in names.items()]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)
