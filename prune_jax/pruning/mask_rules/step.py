"""One step under a mask rule, around any optax optimiser: what the network sees, what trains, when the mask changes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from prune_jax.pruning import masks
from prune_jax.pruning.mask_of_leaf import masks_of
from prune_jax.pruning.mask_rules.rule import MaskRule, MaskState, Turn


class Trained(NamedTuple):
    """What a step changes: weights, the optimiser's state, mask and memory."""

    params: Any
    opt_state: Any
    state: MaskState


def begin(rule: MaskRule, params: Any, key: jax.Array) -> tuple[Any, MaskState]:
    """The weights that training under a rule starts from, and the rule's state.

    Args:
      rule: any mask rule.
      params: any pytree of arrays.
      key: what the first mask may be drawn from.

    Returns:
      (params, state). Pruned weights are 0, unless the rule lets them keep values of their own.
    """
    state = rule.init(params, key)
    return (params if rule.between == "straight" else masks.apply_mask(params, state.mask)), state


def seen(rule: MaskRule, params: Any, mask: Any) -> Any:
    """The weights that the network computes with, at which the gradient is to be taken."""
    return masks.apply_mask(params, mask) if rule.between == "straight" else params


def take_step(
    rule: MaskRule,
    optimizer: optax.GradientTransformation,
    before: Trained,
    gradients: Any,
    turn: jax.Array | None,
    key: jax.Array,
) -> Trained:
    """One step of an optimiser under a mask rule. To be called inside jit.

    Args:
      rule: any mask rule.
      optimizer: any optax optimiser. It sees no gradient of a weight that is held at 0.
      before: weights, the optimiser's state, and the rule's.
      gradients: the loss's, at ``seen(rule, params, mask)``, of all weights.
      turn: ``rule.turns[step]``, int32, or None of a rule without turns. Under vmap over seeds it is to be one number
        for all, so that what a turn costs is paid at turns alone.
      key: a PRNG key of this step.

    Returns:
      The same after the step. Under 'held' pruned weights are exactly 0. Under 'free' they are so after a turn.

    Example:
      >>> from prune_jax.pruning.mask_rules.magnitude import gmp
      >>> rule, optimizer = gmp(steps=2, epoch=1, ratio=0.5, end=1.0), optax.sgd(0.1)
      >>> params, state = begin(rule, {"kernel": jnp.array([[1.0, -3.0, 2.0, 4.0]])}, jax.random.key(0))
      >>> now = Trained(params, optimizer.init(params), state)
      >>> for turn in jnp.asarray(rule.turns):
      ...     gradients = jax.grad(lambda p: jnp.sum(p["kernel"] ** 2) / 2)(seen(rule, now.params, now.state.mask))
      ...     now = take_step(rule, optimizer, now, gradients, turn, jax.random.key(0))
      >>> now.state.mask["kernel"].tolist()
      [[False, True, False, True]]
    """

    def train(now: Trained) -> Trained:
        given = _given(rule, gradients, now.params, now.state.mask)
        updates, opt_state = optimizer.update(given, now.opt_state, now.params)
        params = optax.apply_updates(now.params, updates)
        if rule.between == "held":
            params = _masked(params, now.state.mask)
        return Trained(params, opt_state, now.state)

    if turn is None or (rule.turns < 0).all():
        return train(before)

    def change(now: Trained) -> Trained:
        facts = Turn(now.params, gradients, now.state, jnp.maximum(turn, 0), key)
        return _changed(rule, optimizer, now, facts)

    if rule.instead:
        return jax.lax.cond(turn >= 0, change, train, before)
    return jax.lax.cond(turn >= 0, change, lambda now: now, train(before))


def _masked(tree: Any, mask: Any) -> Any:
    return tree if mask is None else masks.apply_mask(tree, mask)


def _given(rule: MaskRule, gradients: Any, params: Any, mask: Any) -> Any:
    """The gradients that the optimiser gets. A weight that is held at 0 adds to no norm that it takes."""
    if rule.between == "held":
        return _masked(gradients, mask)
    if rule.between == "free" or not rule.decay:
        return gradients
    leaves, treedef = jax.tree.flatten(gradients)
    each = zip(leaves, jax.tree.leaves(params), masks_of(gradients, mask), strict=True)
    return jax.tree.unflatten(
        treedef, [g + jnp.where(m, 0.0, rule.decay * w).astype(g.dtype) for g, w, m in each]
    )


def _changed(rule: MaskRule, optimizer: optax.GradientTransformation, now: Trained, turn: Turn) -> Trained:
    state = rule.update(turn)
    params = now.params if rule.between == "straight" else masks.apply_mask(now.params, state.mask)
    opt_state = now.opt_state
    if rule.grows:
        came = jax.tree.map(lambda new, old: new & ~old, state.mask, now.state.mask)
        opt_state = optax.tree_utils.tree_map_params(optimizer, _unless, opt_state, came)
    return Trained(params, opt_state, state)


def _unless(value: jax.Array, came: jax.Array) -> jax.Array:
    return jnp.where(came, jnp.zeros((), value.dtype), value)
