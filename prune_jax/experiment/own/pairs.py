"""Networks that a user gives as a pair of functions ``(init, apply)``, or as a Linen module, which makes a pair.

``own.network`` says what the two functions take and return.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from prune_jax import models
from prune_jax.experiment.own.parts import call_own, taken

KEY = "model.name"
STATE = "batch_stats"


def of_pair(
    name: str,
    init: Callable[..., Any],
    apply: Callable[..., Any],
    input_shape: tuple[int, ...],
    key: jax.Array,
) -> models.Network:
    """The network of a pair, with variables that ``init`` draws from ``key``.

    Args:
        name: the reference that the pair comes from, for messages.
        init: ``init(key, x)`` -> variables.
        apply: ``apply(variables, x, train, key)``, of the last two what its signature names.
        input_shape: of one example.
        key: a PRNG key.

    Raises:
        ValueError: for what ``init`` raises, and collections beside 'params' and 'batch_stats'.
    """
    given = call_own(init, name, KEY, key, jnp.zeros((1, *input_shape), jnp.float32))
    whole = isinstance(given, Mapping) and "params" in given
    other = sorted(set(given) - {"params", STATE}) if whole else []
    if other:
        raise ValueError(
            f"{KEY} is {name!r}, whose init gives {', '.join(map(repr, other))} beside 'params'; what training "
            f"changes without a gradient belongs into {STATE!r}"
        )
    variables = {"params": given["params"] if whole else given, STATE: given.get(STATE, {}) if whole else {}}
    stateful = bool(jax.tree.leaves(variables[STATE]))

    def form(variables: Any) -> Any:  # as init gave it
        return {part: variables[part] for part in given} if whole else variables["params"]

    def evaluate(variables: Any, x: jax.Array) -> jax.Array:
        return apply(form(variables), x, **taken(apply, {"train": False, "key": None}))

    def train(variables: Any, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, Any]:
        out = apply(form(variables), x, **taken(apply, {"train": True, "key": key}))
        if not stateful:
            return out, variables[STATE]
        if not isinstance(out, tuple) or len(out) != 2:
            raise TypeError(f"in training mode it must return (logits, new {STATE}), not {kind(out)}")
        logits, state = out
        if isinstance(state, Mapping) and set(state) == {STATE} != set(variables[STATE]):
            state = state[STATE]  # as Linen's mutable apply returns it
        return logits, state

    return models.Network(variables, evaluate, train)


def linen_pair(module: linen.Module) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A Linen module as ``(init, apply)``. Its call may take ``train``, and its random layers draw 'dropout'."""
    takes = inspect.signature(type(module).__call__).parameters
    mode = (lambda train: {"train": train}) if "train" in takes else (lambda train: {})

    def init(key: jax.Array, x: jax.Array) -> Any:
        return module.init({"params": key, "dropout": key}, x, **mode(False))

    def apply(variables: Any, x: jax.Array, train: bool, key: jax.Array | None) -> Any:
        rngs = None if key is None else {"dropout": key}
        mutable: Any = [STATE] if train and STATE in variables else False
        return module.apply(variables, x, rngs=rngs, mutable=mutable, **mode(train))

    return init, lambda variables, x, train=False, key=None: apply(variables, x, train, key)


def kind(made: Any) -> str:
    """What something is, for a message: a shape where it has one, else its type."""
    if hasattr(made, "shape") and hasattr(made, "dtype"):
        return f"{made.dtype} of shape {tuple(made.shape)}"
    parts = f" of {', '.join(type(part).__name__ for part in made)}" if isinstance(made, tuple | list) else ""
    return f"{type(made).__name__}{parts}"
