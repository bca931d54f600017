"""The one selection, against a full sort in Python."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_jax.pruning.granularity import ceiling, select, select_global

FAST = {"derandomize": True, "deadline": None, "max_examples": 100}
# Few values, so that most draws have ties; both zeros, which are equal; infinities.
VALUES = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 0.5000001, 2.0, np.inf])
LEAF = st.lists(VALUES, min_size=1, max_size=12).map(np.array)


def by_sorting(scores, gone):
    """Which of a flat list stay: Python's sort is stable, so of equal scores the earlier one is lower."""
    lowest = sorted(range(len(scores)), key=lambda k: scores[k])[:gone]
    return [k not in lowest for k in range(len(scores))]


def by_sorting_with_floors(leaves, gone, floors):
    """One unit after another goes, lowest first, unless its leaf is at its floor already."""
    units = sorted((value, n, k) for n, leaf in enumerate(leaves) for k, value in enumerate(leaf.tolist()))
    keeps = [np.ones(leaf.size, bool) for leaf in leaves]
    for _, n, k in units:
        if gone and keeps[n].sum() > floors[n]:
            keeps[n][k], gone = False, gone - 1
    return keeps


@settings(**FAST)
@given(LEAF, st.data())
def test_the_lowest_go_and_of_equal_ones_the_earlier(scores, data):
    gone = data.draw(st.integers(0, scores.size))
    np.testing.assert_array_equal(select(scores, gone), by_sorting(scores, gone))


@settings(**FAST)
@given(st.lists(LEAF, min_size=1, max_size=4), st.data())
def test_all_leaves_together_with_floors(leaves, data):
    floors = [data.draw(st.integers(0, leaf.size)) for leaf in leaves]
    gone = data.draw(st.integers(0, sum(leaf.size for leaf in leaves) - sum(floors)))
    keeps = select_global(leaves, gone, floors)
    for keep, wanted in zip(keeps, by_sorting_with_floors(leaves, gone, floors), strict=True):
        np.testing.assert_array_equal(keep, wanted)


@settings(**FAST)
@given(st.lists(LEAF, min_size=1, max_size=4), st.integers(0, 100))
def test_without_floors_it_is_one_selection_over_all(leaves, percent):
    keeps = select_global(leaves, percent / 100)
    together = select(np.concatenate(leaves), percent / 100)
    np.testing.assert_array_equal(np.concatenate(keeps), together)
    assert np.count_nonzero(~together) == ceiling(percent / 100, together.size)


def test_eight_equal_scores_lose_exactly_four_the_same_each_time():
    for _ in range(3):
        np.testing.assert_array_equal(select(np.full((2, 4), 0.3), 0.5), [[False] * 4, [True] * 4])


def test_every_leaf_of_a_tree_loses_its_own_share():
    scores = {"a": np.array([[3.0, 1.0], [2.0, 4.0]]), "b": (np.array([5, 5, 5, 1, 5]),)}
    keeps = select(scores, 0.5)  # 2 of 4, and ceil(2.5) = 3 of 5
    np.testing.assert_array_equal(keeps["a"], [[True, False], [False, True]])
    np.testing.assert_array_equal(keeps["b"][0], [False, False, True, False, True])


def test_a_whole_number_is_a_count_and_a_float_a_ratio():
    assert select(np.arange(4), 1).tolist() == [False, True, True, True]
    assert select(np.arange(4), 1.0).tolist() == [False] * 4
    assert select(np.arange(10), 0.7).sum() == 3  # 0.7 * 10 is a little more than 7 in floats


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int8", "uint32"])
def test_every_type_of_number_is_ranked_exactly(dtype):
    scores = jnp.asarray([3, 1, 2, 1, 1, 7], dtype)
    np.testing.assert_array_equal(select(scores, 2), [True, False, True, False, True, True])


def test_neighbouring_floats_are_told_apart():
    near = np.nextafter(np.float32(1), np.float32(2))
    np.testing.assert_array_equal(select(np.array([near, 1, near], np.float32), 1), [True, False, True])


def test_a_large_array_of_few_values_has_the_exact_count():
    scores = np.random.default_rng(0).integers(0, 3, 100_003).astype(np.float32)
    order = np.argsort(scores, kind="stable")
    wanted = np.ones(scores.size, bool)
    wanted[order[: ceiling(0.9, scores.size)]] = False
    np.testing.assert_array_equal(select(scores, 0.9), wanted)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        select(np.array([1.0, np.nan]), 1)
    with pytest.raises(ValueError, match="3 units are to go, but there are 2"):
        select(np.ones(2), 3)
    with pytest.raises(ValueError, match="fraction removed"):
        select(np.ones(2), 1.5)
    with pytest.raises(ValueError, match="3 units are to go, but 2 are in reach"):
        select_global([np.ones(2), np.ones(2)], 3, at_least=1)
    with pytest.raises(ValueError, match="at_least has 1 numbers for 2 leaves"):
        select_global([np.ones(2), np.ones(2)], 1, at_least=[1])
