"""One forward pass and many backward ones, as compiled pieces.

The pull-backs run from a Python loop over one compiled program, never inside ``lax.map`` or ``scan``: there
XLA:CPU computes the gradient of a convolution about 19 times slower.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Apply = Callable[[jax.Array], jax.Array]


class Passes(NamedTuple):
    """The compiled pieces of one network.

    forward(x) -> (logits, pull_back); pull_back is a pytree of what the backward pass needs.
    pull(pull_back, rows, batch) -> (c, batch, ...): every example's gradient of ``rows @ logits``, (c, K).
    """

    forward: Callable[[jax.Array], tuple[jax.Array, Any]]
    pull: Callable[..., jax.Array]


def passes(apply: Apply) -> Passes:
    """Forward and backward pass of ``apply``; a ``jax.tree_util.Partial`` shares its compiled programs.

    Of ``Partial(f, variables)`` the variables are arguments of the programs, so that new weights compile
    nothing. Any other function is compiled anew by each call of ``passes``, its weights being constants.
    Matrix products run at the highest precision unless ``apply`` sets its own: where a device rounds to
    TF32 or bfloat16 by default, that noise would pass for singular values.
    """
    if isinstance(apply, jax.tree_util.Partial):
        return Passes(functools.partial(_forward, apply), _pull)
    return Passes(jax.jit(lambda x: _vjp(apply, x)), jax.jit(_pulled, static_argnums=2))


def _vjp(apply: Apply, x: jax.Array) -> tuple[jax.Array, Any]:
    with jax.default_matmul_precision("highest"):
        return jax.vjp(apply, x)


def _pulled(pull_back: Any, rows: jax.Array, batch: int) -> jax.Array:
    cotangents = jnp.broadcast_to(rows[:, None], (rows.shape[0], batch, rows.shape[1]))
    return jax.vmap(pull_back)(cotangents)[0]


_forward = jax.jit(_vjp)
_pull = jax.jit(_pulled, static_argnums=2)
