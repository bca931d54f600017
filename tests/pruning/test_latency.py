"""Measured times, on a clock of the test's own: no assertion depends on the machine."""

import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.pruning.latency import latency


def clock_of(durations):
    """Each pair of readings is one duration apart; between pairs an hour passes."""
    now, readings = 0.0, []
    for seconds in durations:
        readings += [now, now + seconds]
        now += 3600
    return iter(readings).__next__


def test_quartiles_are_of_the_measured_calls_and_compiling_is_apart():
    durations = [5.0, 1.0, 3.0, 2.0]
    found = latency(
        lambda v, x: x @ v["w"],
        {"w": np.ones((2, 3))},
        np.ones((4, 2)),
        repeats=4,
        clock=clock_of([100.0, *durations]),
    )
    assert found.compile == pytest.approx(100)
    assert (found.lower_quartile, found.median, found.upper_quartile) == pytest.approx((1.75, 2.5, 3.5))
    assert found.repeats == 4


def test_several_inputs_and_outputs_are_waited_for():
    calls = []

    def apply(variables, a, b):
        calls.append(0)  # tracing happens once, whatever the number of calls
        return {"sum": a + b, "times": variables * a}

    found = latency(apply, jnp.float32(2), jnp.ones(3), jnp.ones(3), repeats=2, warmup=1)
    assert calls == [0]
    assert 0 < found.lower_quartile <= found.median <= found.upper_quartile
    assert found.compile > 0


def test_wrong_counts_are_named():
    with pytest.raises(ValueError, match="repeats is 0, warmup 3"):
        latency(lambda v, x: x, {}, jnp.ones(1), repeats=0)
