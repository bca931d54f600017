"""Ratios to keeps: counts by hand, ties, stages, patterns, global ranking, target speedup."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_jax.pruning import allocation, cost
from prune_jax.pruning.coupling import Group, Slice, find_groups

FAST = {"derandomize": True, "deadline": None, "max_examples": 60}


def group(name, size, frozen=None):
    producer = Slice(f"{name}/kernel", 0, np.arange(size))
    return Group(name, size, (producer,), producer, frozen, True)


GROUPS = (
    group("stem", 4),
    group("blocks/0/conv1", 10),
    group("blocks/0/conv2", 10),
    group("blocks/1/conv1", 8),
    group("fc", 5, frozen="network output"),
)
SCORES = {g.name: np.arange(g.size, dtype=float) for g in GROUPS}


@pytest.mark.parametrize(
    ("size", "ratio", "gone"),
    [
        (64, 0.1, 7),
        (64, 0.95, 61),
        (10, 0.7, 7),
        (10, 0.3, 3),
        (3, 0.999, 2),
        (8, 1.0, 7),
        (5, 0.0, 0),
        (1, 0.5, 0),
    ],
)
def test_pruned_counts_by_hand(size, ratio, gone):
    assert allocation.pruned_count(size, ratio) == gone


@settings(**FAST)
@given(st.integers(1, 600), st.integers(0, 100))
def test_pruned_count_is_the_exact_ceiling(size, percent):
    exact = -(-Fraction(percent, 100) * size // 1)
    assert allocation.pruned_count(size, percent / 100) == min(exact, size - 1)


@settings(**FAST)
@given(st.integers(1, 600), st.floats(0, 1), st.sampled_from((1, 4, 8, 32)))
def test_rounding_only_ever_keeps_more(size, ratio, round_to):
    kept = size - allocation.pruned_count(size, ratio, round_to=round_to)
    assert kept % round_to == 0 or kept == size
    assert 0 <= kept - (size - allocation.pruned_count(size, ratio)) < round_to


@pytest.mark.parametrize("ratio", [-0.1, 1.01, float("nan")])
def test_a_ratio_outside_its_range_is_refused(ratio):
    with pytest.raises(ValueError, match="fraction removed"):
        allocation.pruned_count(8, ratio)


def test_ties_fall_in_index_order_and_counts_are_exact():
    np.testing.assert_array_equal(allocation.lowest(np.array([1.0, 1, 1, 1, 0]), 3), [2, 3])
    with pytest.raises(ValueError, match="NaN"):
        allocation.lowest(np.array([1.0, np.nan]), 1)


def test_uniform_prunes_what_the_patterns_name():
    keep = allocation.uniform(GROUPS, SCORES, 0.3, ("*conv1",))
    assert {name: kept.tolist() for name, kept in keep.items()} == {
        "blocks/0/conv1": [3, 4, 5, 6, 7, 8, 9],
        "blocks/1/conv1": [3, 4, 5, 6, 7],
    }
    assert set(allocation.uniform(GROUPS, SCORES, 0.3)) == {g.name for g in GROUPS if g.frozen is None}


@pytest.mark.parametrize(
    ("pattern", "words"), [("nothing*", "no group's name fits"), ("fc", "frozen; fc: network out")]
)
def test_patterns_that_name_nothing_prunable_are_refused(pattern, words):
    with pytest.raises(ValueError, match=words):
        allocation.uniform(GROUPS, SCORES, 0.5, (pattern,))


def test_missing_scores_are_refused():
    with pytest.raises(KeyError, match="10 numbers for group 'blocks/0/conv1'"):
        allocation.uniform(GROUPS, SCORES | {"blocks/0/conv1": np.ones(3)}, 0.5, ("blocks/0/conv1",))


def test_first_pattern_that_fits_counts():
    keep = allocation.by_pattern(GROUPS, SCORES, {"blocks/0/*": 0.5, "*conv1": 0.25})
    assert {name: len(kept) for name, kept in keep.items()} == {
        "blocks/0/conv1": 5,
        "blocks/0/conv2": 5,
        "blocks/1/conv1": 6,
    }


STAGES = (("stem",), ("blocks/0/*",), ("blocks/1/*",), ("fc",))


def test_stage_lists_prune_what_the_patterns_name_in_each_stage():
    keep = allocation.per_stage(GROUPS, SCORES, [0, 0.6, 0.25, 0], STAGES, ("*conv1",))
    assert {name: len(kept) for name, kept in keep.items()} == {"blocks/0/conv1": 4, "blocks/1/conv1": 6}
    whole = allocation.per_stage(GROUPS, SCORES, [0, 0.6, 0.25, 0], STAGES)
    assert {name: len(kept) for name, kept in whole.items()} == {
        "stem": 4,
        "blocks/0/conv1": 4,
        "blocks/0/conv2": 4,
        "blocks/1/conv1": 6,
    }


def test_stage_lists_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"3 ratios .* for 4 stages"):
        allocation.per_stage(GROUPS, SCORES, [0, 0.6, 0], STAGES)


def test_global_ranking_by_hand():
    pair = (group("a", 3), group("b", 3))
    scores = {"a": np.array([1.0, 5, 6]), "b": np.array([20.0, 30, 40])}
    keep = allocation.global_ranking(pair, scores, 0.5, normalise=allocation.as_is)
    assert {name: kept.tolist() for name, kept in keep.items()} == {"a": [2], "b": [1, 2]}
    # Divided by their means 4 and 30: a .25 1.25 1.5, b .67 1 1.33.
    keep = allocation.global_ranking(pair, scores, 0.5, normalise=allocation.by_mean)
    assert {name: kept.tolist() for name, kept in keep.items()} == {"a": [1, 2], "b": [2]}


def test_global_ranking_never_empties_a_group():
    pair = (group("a", 4), group("b", 4))
    scores = {"a": np.array([1.0, 2, 3, 4]), "b": np.array([10.0, 20, 30, 40])}
    keep = allocation.global_ranking(pair, scores, 0.5, normalise=allocation.as_is)
    assert {name: kept.tolist() for name, kept in keep.items()} == {"a": [3], "b": [1, 2, 3]}
    keep = allocation.global_ranking(pair, scores, 0.5, normalise=allocation.as_is, at_least=0.5)
    assert {name: kept.tolist() for name, kept in keep.items()} == {"a": [2, 3], "b": [2, 3]}


@settings(**FAST)
@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=6), st.floats(0, 1), st.floats(0, 1), st.integers(0, 9)
)
def test_global_counts_are_exact_up_to_the_guard(sizes, ratio, at_least, seed):
    groups = [group(f"g{k}", n) for k, n in enumerate(sizes)]
    rng = np.random.default_rng(seed)
    scores = {g.name: rng.integers(0, 4, g.size).astype(float) for g in groups}  # many ties
    keep = allocation.global_ranking(groups, scores, ratio, at_least=at_least)
    floors = [max(1, int(np.ceil(at_least * n - 1e-9))) for n in sizes]
    gone = min(int(np.ceil(ratio * sum(sizes) - 1e-9)), sum(sizes) - sum(floors))
    assert sum(len(kept) for kept in keep.values()) == sum(sizes) - gone
    assert all(len(keep[g.name]) >= floor for g, floor in zip(groups, floors, strict=True))


def mlp():
    def apply(p, x):
        return jax.nn.relu(jax.nn.relu(x @ p["a"]) @ p["b"]) @ p["c"]

    params = {"a": jnp.ones((8, 40)), "b": jnp.ones((40, 30)), "c": jnp.ones((30, 5))}
    return apply, params, jax.ShapeDtypeStruct((1, 8), "float32")


@settings(**(FAST | {"max_examples": 15}))
@given(st.floats(1, 12))
def test_target_speedup_is_the_smallest_ratio_that_reaches_it(speedup):
    apply, params, x = mlp()
    groups = find_groups(apply, params, x)
    scores = {g.name: np.arange(g.size, dtype=float) for g in groups}
    price = cost.cost_of_keeps(apply, params, x)

    def allocate(ratio):
        return allocation.uniform(groups, scores, ratio)

    keep = allocation.to_speedup(allocate, lambda k: price(k).macs, speedup)
    dense = 8 * 40 + 40 * 30 + 30 * 5
    a, b = len(keep["a"]), len(keep["b"])
    assert (8 * a + a * b + b * 5) * speedup <= dense
    # By hand over every count that a ratio can give: nothing larger would do.
    for ratio in np.arange(0, 1, 1 / 240):
        more = {name: len(kept) for name, kept in allocate(ratio).items()}
        if more["a"] * 8 + more["a"] * more["b"] + more["b"] * 5 > 8 * a + a * b + b * 5:
            assert (more["a"] * 8 + more["a"] * more["b"] + more["b"] * 5) * speedup > dense


def test_speedups_out_of_reach_are_refused():
    def allocate(ratio):
        return allocation.uniform(GROUPS[:1], SCORES, ratio)

    with pytest.raises(ValueError, match=r"out of reach: pruning all it can gives 4\.000"):
        allocation.to_speedup(allocate, lambda keep: 100 * len(keep.get("stem", range(4))), 5.0)
    with pytest.raises(ValueError, match="at least 1"):
        allocation.to_speedup(allocate, len, 0.5)
