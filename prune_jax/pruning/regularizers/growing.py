"""GReg: an L2 penalty that grows on the channels that are to go, and nowhere else.

Source: Wang et al., Neural Pruning via Growing Regularization, ICLR 2021, arXiv 2012.09243, and its companion code,
which decides where the paper leaves something open.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.regularizers.channels import (
    lowest,
    mean_magnitudes,
    refuse_over,
    slices_of,
    squared_norms,
    weighed,
)
from prune_jax.pruning.regularizers.growth import NEVER, at_once, halves, refuse_below, rises_above, rises_to
from prune_jax.pruning.regularizers.penalty import Leaves, Penalty

KEPT_SHARE = 0.9  # of the old value in the moving average of the ratio, as in the companion code


class GrowthState(NamedTuple):
    """Where growth stands. Each field maps a group's name to an array.

    Attributes:
      doomed: which channels are to go, bool (size,).
      risen: how often the group's penalty has grown, int32.
      strength: the L2 strength of each channel, float32 (size,).
      ratio: moving average of the mean magnitude of kept channels over that of doomed ones, float32.
      finished: whether growth has ended, bool.
      held: steps since growth ended everywhere, int32. It is one number, not one a group.
    """

    doomed: dict[str, jax.Array]
    risen: dict[str, jax.Array]
    strength: dict[str, jax.Array]
    ratio: dict[str, jax.Array]
    finished: dict[str, jax.Array]
    held: jax.Array


class Rises(NamedTuple):
    """How the penalty of a group grows: by ``pick_step`` on all channels, then by ``step`` on the doomed ones.

    ``picks`` rises pick. 0: the doomed ones are known from the start. Growth ends above ``limit``, after ``most``
    rises. Kept channels have the strength ``recover`` once it is known which they are.
    """

    step: float
    most: int
    picks: int = 0
    pick_step: float = 0.0
    recover: float = 0.0


class Stop(NamedTuple):
    """When growth is looked at and when it ends: every ``every`` steps, and at ``ratio_limit``, ``together`` or not.

    ``together``: the ratios of all groups must have reached it. ``hold``: steps that the strength is held for after.
    """

    every: int
    ratio_limit: float
    hold: int
    together: bool


def greg1(
    groups: Sequence[Group],
    gone: Mapping[str, int],
    *,
    step: float = 1e-4,
    every: int = 5,
    limit: float = 1.0,
    ratio_limit: float = 1000.0,
    hold: int = 40000,
    over: str = "producer",
) -> Penalty:
    """GReg-1: the channels of lowest L1 norm are fixed at the start, and their L2 strength grows.

    At steps 0, ``every``, 2 ``every``, ... the strength of the doomed channels rises by ``step``. A group's growth
    ends above ``limit``, or once every group's kept channels are ``ratio_limit`` times as large as its doomed ones.

    Args:
      groups: coupled groups that can be pruned.
      gone: group name -> how many channels are to go. Others are left alone.
      step: by how much the strength rises.
      every: steps between two rises. The paper takes 5 for ImageNet, 10 for CIFAR.
      limit: the strength above which a group's growth ends.
      ratio_limit: the moving average of (mean kept magnitude / mean doomed magnitude) at which growth ends.
      hold: steps that the strength is held for after growth has ended everywhere. 40000 for ImageNet, 10000 for CIFAR.
      over: 'producer', the weights that make a channel, as published. Or 'coupled', all kernels that make or read it.

    Returns:
      The penalty: half the sum of strength times squared weight.

    Raises:
      ValueError: a number outside its range.
    """
    refuse_below(0, step=step, limit=limit, ratio_limit=ratio_limit, hold=hold)
    rises = Rises(step, rises_above(limit, step))
    return _growing(groups, gone, rises, Stop(every, ratio_limit, hold, together=True), over)


def greg2(
    groups: Sequence[Group],
    gone: Mapping[str, int],
    *,
    pick_step: float = 1e-5,
    pick_limit: float = 1e-2,
    step: float = 1e-4,
    recover: float = -1e-4,
    every: int = 5,
    limit: float = 1.0,
    ratio_limit: float = 1000.0,
    hold: int = 40000,
    over: str = "producer",
) -> Penalty:
    """GReg-2: a strength that grows on all channels shows which are to go. Then it grows on those alone.

    All channels rise by ``pick_step`` until the strength reaches ``pick_limit``. The channels of lowest L1 norm at
    that moment are doomed and rise by ``step`` on. The others have the strength ``recover``, which is negative as
    published: it gives back what picking has shrunk, and makes the penalty negative there.

    Args:
      groups: as for ``greg1``.
      gone: as for ``greg1``.
      pick_step: by how much the strength of all channels rises.
      pick_limit: the strength at which the doomed channels are picked.
      step: by how much the strength of the doomed channels rises.
      recover: the strength of the kept channels after picking.
      every: as for ``greg1``.
      limit: as for ``greg1``.
      ratio_limit: as for ``greg1``, of each group by itself.
      hold: as for ``greg1``.
      over: as for ``greg1``.

    Returns:
      The penalty: half the sum of strength times squared weight.

    Raises:
      ValueError: a number outside its range.
    """
    refuse_below(0, step=step, pick_step=pick_step, pick_limit=pick_limit, limit=limit, hold=hold)
    refuse_below(0, ratio_limit=ratio_limit)
    picks = rises_to(pick_limit, pick_step)
    most = min(NEVER, picks + rises_above(limit - picks * pick_step, step))
    rises = Rises(step, most, picks, pick_step, recover)
    return _growing(groups, gone, rises, Stop(every, ratio_limit, hold, together=False), over)


def _growing(
    groups: Sequence[Group], gone: Mapping[str, int], rises: Rises, stop: Stop, over: str
) -> Penalty:
    refuse_over(over)
    refuse_below(1, every=stop.every)
    mine = [group for group in groups if gone.get(group.name, 0)]

    def init(leaves: Leaves) -> GrowthState:
        doomed = {g.name: lowest(mean_magnitudes(leaves, g), gone[g.name]) for g in mine}
        return GrowthState(
            doomed,
            {name: jnp.zeros((), jnp.int32) for name in doomed},
            {name: jnp.zeros(len(channels)) for name, channels in doomed.items()},
            {name: jnp.zeros(()) for name in doomed},
            {name: jnp.zeros((), bool) for name in doomed},
            jnp.zeros((), jnp.int32),
        )

    def advance(state: GrowthState, leaves: Leaves, count: jax.Array) -> GrowthState:
        ended = at_once(state.finished.values())
        held = state._replace(held=state.held + ended)
        due = (count % stop.every == 0) & ~ended
        return jax.lax.cond(due, lambda: _risen(held, leaves, mine, gone, rises, stop, count), lambda: held)

    def terms(state: GrowthState, leaves: Leaves) -> list[Any]:
        return [(of, state.strength[g.name]) for g in mine for of in slices_of(g, leaves, over)]

    def value(state: GrowthState, leaves: Leaves) -> jax.Array:
        return halves(
            state.strength[g.name] * squared_norms(leaves, slices_of(g, leaves, over), g.size) for g in mine
        )

    return Penalty(
        groups,
        init,
        advance,
        value,
        lambda state, leaves: weighed(leaves, terms(state, leaves)),
        done=lambda state: at_once(state.finished.values()) & (state.held >= stop.hold),
    )


def _risen(
    state: GrowthState,
    leaves: Leaves,
    groups: Sequence[Group],
    gone: Mapping[str, int],
    rises: Rises,
    stop: Stop,
    count: jax.Array,
) -> GrowthState:
    """The state after one rise of every group that hasn't finished."""
    doomed, risen, ratio, strength = {}, {}, {}, {}
    for group in groups:
        name, scores = group.name, mean_magnitudes(leaves, group)
        before = state.risen[name]
        risen[name] = before + ~state.finished[name]
        doomed[name] = state.doomed[name]
        if rises.picks:  # the choice is made anew until it is final
            doomed[name] = jnp.where(before < rises.picks, lowest(scores, gone[name]), doomed[name])
        now = _magnitude_ratio(scores, doomed[name], gone[name])
        averaged = jnp.where(count == 0, now, KEPT_SHARE * state.ratio[name] + (1 - KEPT_SHARE) * now)
        ratio[name] = jnp.where(state.finished[name], state.ratio[name], averaged)
        strength[name] = _strength(risen[name], doomed[name], rises)
    picked = {name: risen[name] >= rises.picks for name in risen}
    far = {name: ratio[name] >= stop.ratio_limit for name in ratio}
    if stop.together:
        far = dict.fromkeys(far, at_once(far.values()))
    finished = {
        name: state.finished[name] | (picked[name] & (far[name] | (risen[name] >= rises.most)))
        for name in risen
    }
    return GrowthState(doomed, risen, strength, ratio, finished, state.held)


def _strength(risen: jax.Array, doomed: jax.Array, rises: Rises) -> jax.Array:
    """The L2 strength of each channel after so many rises."""
    picking = rises.pick_step * risen
    pushed = rises.pick_step * rises.picks + rises.step * (risen - rises.picks)
    return jnp.where(risen <= rises.picks, picking, jnp.where(doomed, pushed, rises.recover)).astype(
        jnp.float32
    )


def _magnitude_ratio(scores: jax.Array, doomed: jax.Array, gone: int) -> jax.Array:
    """Mean magnitude of kept channels over that of doomed ones. Infinite where those are zero."""
    kept = jnp.where(doomed, 0, scores).sum() / (len(scores) - gone)
    return kept / (jnp.where(doomed, scores, 0).sum() / gone)
