"""One forward pass and many backward ones, as compiled pieces.

The pull-backs run from a Python loop over one compiled program, never inside ``lax.map`` or ``scan``: there
XLA:CPU computes the gradient of a convolution about 19 times slower.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from prune_jax.trainability.singular_values import Method, singular_values

Apply = Callable[[jax.Array], jax.Array]


class Passes(NamedTuple):
    """The compiled pieces of one network.

    shapes(x) -> abstract (logits, pull_back), without any work.
    forward(x) -> (logits, pull_back); pull_back is a pytree of what the backward pass needs.
    pull(pull_back, rows, batch) -> (c, batch, ...): every example's gradient of ``rows @ logits``, (c, K).
    values(x, rows, method) -> singular values from one program, where one chunk holds all rows.
    """

    shapes: Callable[[jax.Array], tuple[Any, Any]]
    forward: Callable[[jax.Array], tuple[jax.Array, Any]]
    pull: Callable[..., jax.Array]
    values: Callable[..., jax.Array]


def passes(apply: Apply) -> Passes:
    """Forward and backward pass of ``apply``; a ``jax.tree_util.Partial`` shares its compiled programs.

    Of ``Partial(f, variables)`` the variables are arguments of the programs, so that new weights compile
    nothing. Any other function is compiled anew by each call of ``passes``, its weights being constants.
    Matrix products run at the highest precision unless ``apply`` sets its own: where a device rounds to
    TF32 or bfloat16 by default, that noise would pass for singular values.
    """
    if isinstance(apply, jax.tree_util.Partial):
        given = functools.partial
        return Passes(given(_forward.eval_shape, apply), given(_forward, apply), _pull, given(_values, apply))
    forward = jax.jit(lambda x: _vjp(apply, x))
    values = jax.jit(lambda x, rows, method: _at_once(apply, x, rows, method), static_argnums=2)
    return Passes(forward.eval_shape, forward, jax.jit(_pulled, static_argnums=2), values)


def _vjp(apply: Apply, x: jax.Array) -> tuple[jax.Array, Any]:
    with jax.default_matmul_precision("highest"):
        return jax.vjp(apply, x)


def _pulled(pull_back: Any, rows: jax.Array, batch: int) -> jax.Array:
    cotangents = jnp.broadcast_to(rows[:, None], (rows.shape[0], batch, rows.shape[1]))
    return jax.vmap(pull_back)(cotangents)[0]


def _solved(parts: list[jax.Array], method: Method) -> jax.Array:
    batch = parts[0].shape[1]
    return singular_values(jnp.concatenate(parts).reshape(-1, batch, parts[0][0, 0].size), method)


def _at_once(apply: Apply, x: jax.Array, rows: jax.Array, method: Method) -> jax.Array:
    return _solved([_pulled(_vjp(apply, x)[1], rows, len(x))], method)


_forward = jax.jit(_vjp)
_pull = jax.jit(_pulled, static_argnums=2)
_values = jax.jit(_at_once, static_argnums=3)
solve = jax.jit(_solved, static_argnums=1)
