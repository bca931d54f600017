"""Cumulative ratios and speedups against hand tables and their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_jax.pruning.rounds import SCHEDULES, cumulative_ratios, cumulative_speedups

FAST = {"derandomize": True, "deadline": None, "max_examples": 60}


@pytest.mark.parametrize(
    ("schedule", "ratios", "speedups"),
    [
        ("one-shot", (0.875, 0.875, 0.875), (8.0, 8.0, 8.0)),
        ("linear", (0.875 / 3, 1.75 / 3, 0.875), (10 / 3, 17 / 3, 8.0)),
        ("geometric", (0.5, 0.75, 0.875), (2.0, 4.0, 8.0)),
    ],
)
def test_three_rounds_by_hand(schedule, ratios, speedups):
    np.testing.assert_allclose(cumulative_ratios(0.875, 3, schedule), ratios, rtol=1e-12)
    np.testing.assert_allclose(cumulative_speedups(8.0, 3, schedule), speedups, rtol=1e-12)


@settings(**FAST)
@given(st.floats(0, 1), st.floats(1, 1e6), st.integers(1, 30), st.sampled_from(list(SCHEDULES)))
def test_rounds_never_fall_and_end_exactly_at_the_target(ratio, speedup, rounds, schedule):
    for target, found in (
        (ratio, cumulative_ratios(ratio, rounds, schedule)),
        (speedup, cumulative_speedups(speedup, rounds, schedule)),
    ):
        assert len(found) == rounds
        assert found[-1] == target
        assert list(found) == sorted(found)


@settings(**FAST)
@given(st.floats(0.01, 0.99), st.integers(2, 20))
def test_a_geometric_round_removes_the_same_fraction_of_what_is_left(ratio, rounds):
    left = 1 - np.array((0.0, *cumulative_ratios(ratio, rounds, "geometric")))
    np.testing.assert_allclose(left[1:] / left[:-1], (1 - ratio) ** (1 / rounds), rtol=1e-9)


@pytest.mark.parametrize("rounds", [0, -1, 2.0, True, "3"])
def test_rounds_must_be_a_whole_number(rounds):
    for cumulative in (cumulative_ratios, cumulative_speedups):
        with pytest.raises(ValueError, match=r"rounds is .*whole number of at least 1"):
            cumulative(1.0, rounds, "linear")


def test_other_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="'cubic'; choose one of one-shot, linear, geometric"):
        cumulative_ratios(0.5, 2, "cubic")
    for ratio in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="fraction removed"):
            cumulative_ratios(ratio, 2, "linear")
    for speedup in (0.5, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="at least 1 and finite"):
            cumulative_speedups(speedup, 2, "linear")
