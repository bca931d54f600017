"""How long must an LR stage last? Until training loss and mean JSV have stopped moving: a rule in pure JAX state.

The paper (§5.2, App. D) extends first LR stages by hand and says that nobody knows how many epochs are proper. This
rule is ours. ``optax.contrib.reduce_on_plateau`` is not used: it watches one value, asks whether it still improves
(a JSV has no better or worse), scales updates for ever by one factor instead of walking along a schedule's stages,
and knows neither a shortest and longest stage nor an end of training. Its state inspired ours.

A stage of training fits into one ``lax.scan`` over epochs: the LR is ``rates[state.stage]``, and what has ``done``
keeps its weights. A launch steps over the epochs from outside. After each it writes a test accuracy into the curve,
drops replicas whose loss is not finite, makes sure that its lease still holds, and asks whether to keep a checkpoint or
to end. A scan would save little: an epoch of MLP-7 with three seeds and 4,000 examples took 138 ms of CPU time from
outside and 130 ms in a scan (jax 0.10.2, one BLAS thread), most of it since three JSVs came from one program.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from prune_jax.experiment.specs import Plateau


class PlateauState(NamedTuple):
    """Where one replica stands: scalars, int32, float32 and bool. With R replicas every leaf is ``(R,)``.

    ``loss`` and ``jsv`` are sums over the current window, ``loss_before`` and ``jsv_before`` the means of the
    window before, NaN without one. ``epochs`` counts from the stage's begin.
    """

    stage: jax.Array
    epochs: jax.Array
    loss: jax.Array
    jsv: jax.Array
    loss_before: jax.Array
    jsv_before: jax.Array
    done: jax.Array


def plateau_start() -> PlateauState:
    """The state before the first epoch of the first stage."""
    zero, none = jnp.zeros((), jnp.float32), jnp.full((), jnp.nan, jnp.float32)
    count = jnp.zeros((), jnp.int32)
    return PlateauState(count, count, zero, zero, none, none, jnp.zeros((), bool))


def plateau_step(
    state: PlateauState, loss: jax.Array, jsv: jax.Array, rule: Plateau, longest: tuple[int, ...]
) -> PlateauState:
    """The state after an epoch with this mean training loss and mean JSV.

    A stage takes at most ``longest`` epochs of its own.

    Every ``rule.window`` epochs the window's means are held against those of the window before: the stage is over
    once the loss has moved by at most ``rule.loss`` nats and the JSV by at most ``rule.jsv`` of itself, not before
    ``rule.minimum`` epochs, and after its ``longest`` in any case. The last stage's end is the end: then nothing
    changes any more. Jit-able and, over states, losses and JSVs, vmap-able.
    """
    epochs, losses, jsvs = state.epochs + 1, state.loss + loss, state.jsv + jsv
    full = epochs % rule.window == 0
    loss_mean, jsv_mean = losses / rule.window, jsvs / rule.window
    still = (jnp.abs(loss_mean - state.loss_before) <= rule.loss) & (
        jnp.abs(jsv_mean - state.jsv_before) <= rule.jsv * state.jsv_before
    )  # false while there is no window before, as nothing compares with NaN
    over = (full & still & (epochs >= rule.minimum)) | (epochs >= jnp.asarray(longest)[state.stage])
    last = state.stage == len(longest) - 1
    moved = PlateauState(
        stage=jnp.where(over & ~last, state.stage + 1, state.stage),
        epochs=jnp.where(over & ~last, 0, epochs),
        loss=jnp.where(full | over, 0.0, losses),
        jsv=jnp.where(full | over, 0.0, jsvs),
        loss_before=jnp.where(over, jnp.nan, jnp.where(full, loss_mean, state.loss_before)),
        jsv_before=jnp.where(over, jnp.nan, jnp.where(full, jsv_mean, state.jsv_before)),
        done=over & last,
    )
    return jax.tree.map(lambda old, new: jnp.where(state.done, old, new), state, moved)
