"""How long a network takes on this device, measured: MACs are no time."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np


class Latency(NamedTuple):
    """Seconds of one call, from the start of the call until its result is ready.

    Attributes:
      median: half of the calls took at most so long.
      lower_quartile: a quarter of the calls took at most so long.
      upper_quartile: three quarters did.
      compile: seconds of tracing and compiling, which happen once and are in none of the others.
      repeats: how many calls were measured.

    Example:
      >>> Latency(2e-3, 1e-3, 3e-3, compile=0.5, repeats=30).median
      0.002
    """

    median: float
    lower_quartile: float
    upper_quartile: float
    compile: float
    repeats: int


def latency(
    apply: Callable[..., Any],
    variables: Any,
    *inputs: Any,
    repeats: int = 30,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """The measured time of ``jax.jit(apply)(variables, *inputs)`` on the default device.

    The variables and inputs are put on the device first, so that no copy is measured. Each call waits for its
    result. Two networks are compared in one process, one after the other, with nothing else on the device.

    Args:
      apply: any function that ``jax.jit`` takes.
      variables: its first argument, a pytree of arrays.
      *inputs: its further arguments. Their batch size is the one that is measured.
      repeats: calls that are measured, at least 1.
      warmup: calls before them that are not: caches and clocks of the device settle.
      clock: seconds on a clock that only goes forward.

    Returns:
      Median and quartiles of the calls, and the time of compiling apart.

    Raises:
      ValueError: ``repeats`` is less than 1 or ``warmup`` less than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> latency(lambda w, x: x @ w, jnp.ones((4, 2)), jnp.ones((8, 4)), repeats=3).repeats
      3
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(
            f"repeats is {repeats}, warmup {warmup}; at least 1 call is measured, warmup is 0 or more"
        )
    arguments = jax.block_until_ready(jax.device_put((variables, *inputs)))
    start = clock()
    compiled = jax.jit(apply).lower(*arguments).compile()
    compiling = clock() - start
    for _ in range(warmup):
        jax.block_until_ready(compiled(*arguments))
    seconds = [_seconds(compiled, arguments, clock) for _ in range(repeats)]
    lower, median, upper = (float(q) for q in np.quantile(seconds, (0.25, 0.5, 0.75)))
    return Latency(median, lower, upper, compiling, repeats)


def _seconds(compiled: Callable[..., Any], arguments: tuple[Any, ...], clock: Callable[[], float]) -> float:
    start = clock()
    jax.block_until_ready(compiled(*arguments))
    return clock() - start
