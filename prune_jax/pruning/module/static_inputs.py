"""Inputs that aren't arrays are part of the code: they are bound before anything is traced."""

from collections.abc import Callable
from typing import Any

import jax

STATIC = (bool, int, float, str, bytes, type(None))
Bind = Callable[[Callable[..., Any]], Callable[..., Any]]


def bound(inputs: tuple[Any, ...]) -> tuple[tuple[Any, ...], Bind]:
    """The inputs that hold arrays, and what binds the others.

    Returns:
      Arrays, and ``bind``: of ``function(variables, *inputs)`` it makes ``function(variables, *arrays)``.
    """
    traced = [k for k, value in enumerate(inputs) if not _is_static(value)]
    if len(traced) == len(inputs):
        return inputs, lambda function: function

    def bind(function: Callable[..., Any]) -> Callable[..., Any]:
        def with_arrays(variables: Any, *arrays: Any) -> Any:
            whole = list(inputs)
            for k, array in zip(traced, arrays, strict=True):
                whole[k] = array
            return function(variables, *whole)

        return with_arrays

    return tuple(inputs[k] for k in traced), bind


def _is_static(value: Any) -> bool:
    return isinstance(value, STATIC) or (callable(value) and not jax.tree.leaves(value))
