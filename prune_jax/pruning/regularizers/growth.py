"""Arithmetic of penalties that grow: how many rises there are, and the checks of their numbers."""

import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp

NEVER = 2**31 - 1
NOISE = 1e-6  # 1e-5 * 1000 isn't 1e-2 in binary, and limits aren't meant that precisely


def rises_to(limit: float, step: float) -> int:
    """After how many rises by ``step`` a strength that begins at 0 has reached ``limit``.

    >>> rises_to(1e-2, 1e-5), rises_to(0.25, 0.1), rises_to(1.0, 0.0) == NEVER
    (1000, 3, True)
    """
    return NEVER if step <= 0 < limit else max(0, math.ceil(limit / (step or 1.0) - NOISE))


def rises_above(limit: float, step: float) -> int:
    """After how many rises by ``step`` a strength that begins at 0 is above ``limit``.

    >>> rises_above(1.0, 1e-4), rises_above(0.25, 0.1)
    (10001, 3)
    """
    return NEVER if step <= 0 else max(0, math.floor(limit / step + NOISE) + 1)


def at_once(flags: Iterable[jax.Array]) -> jax.Array:
    """Whether all flags are set. True of none."""
    return jnp.all(jnp.stack([jnp.ones((), bool), *flags]))


def halves(parts: Iterable[jax.Array]) -> jax.Array:
    """Half the sum of all numbers in all arrays, float32."""
    return 0.5 * sum((part.sum() for part in parts), jnp.zeros(()))


def refuse_below(least: float, **numbers: float) -> None:
    """Raise ValueError, naming the first, for a number below ``least`` or NaN."""
    for name, number in numbers.items():
        if not number >= least:
            raise ValueError(f"{name} is {number}; it must be at least {least:g}")
