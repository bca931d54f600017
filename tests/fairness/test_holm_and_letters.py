"""Holm's step-down by hand and by its definition; letters against all subsets."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_jax.fairness import holm, indistinct_sets, letters


@pytest.mark.parametrize(
    ("ps", "wanted"),
    [
        ([], []),
        ([0.3], [0.3]),
        (
            [0.01, 0.04, 0.03, 0.005],
            [0.03, 0.06, 0.06, 0.02],
        ),  # 4*0.005, 3*0.01, 2*0.03, then max(0.06, 0.04)
        ([0.04, 0.02], [0.04, 0.04]),
        ([0.6, 0.7], [1.0, 1.0]),  # 2*0.6 is above 1
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([None, 0.02, None, 0.03], [None, 0.04, None, 0.04]),  # m = 2: what was not tested is not counted
        ([0.0, 1.0], [0.0, 1.0]),
    ],
)
def test_holm_by_hand(ps, wanted):
    found = holm(ps)
    assert [p is None for p in found] == [p is None for p in wanted]
    assert [p for p in found if p is not None] == pytest.approx(
        [p for p in wanted if p is not None], rel=1e-12
    )


def rejected(ps, level):
    """Holm's procedure as he states it: from the smallest p on, until one is above level / (tests that are left)."""
    order = sorted(range(len(ps)), key=lambda place: ps[place])
    out = set()
    for step, place in enumerate(order):
        if ps[place] > level / (len(ps) - step):
            break
        out.add(place)
    return out


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 1000).map(lambda i: i / 1000), max_size=8), st.integers(1, 999))
def test_the_corrected_p_is_the_smallest_level_at_which_holm_rejects(ps, level):
    level = level / 1000 + 0.00037  # off the grid of products, so that rounding decides nothing
    assert {place for place, p in enumerate(holm(ps)) if p <= level} == rejected(ps, level)


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_what_is_no_p_is_refused(p):
    with pytest.raises(ValueError, match="a p-value is a number from 0 to 1, got"):
        holm([0.5, p])


graphs = st.integers(0, 7).flatmap(
    lambda n: st.tuples(
        st.just(n), st.sets(st.sampled_from(list(itertools.combinations(range(n), 2)) or [None]))
    )
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(graphs)
def test_sets_and_letters_against_all_subsets(graph):
    count, apart = graph[0], graph[1] - {None}
    free = [
        set(members)
        for size in range(1, count + 1)
        for members in itertools.combinations(range(count), size)
        if not apart & set(itertools.combinations(members, 2))
    ]
    largest = sorted(tuple(sorted(s)) for s in free if not any(s < other for other in free))
    assert list(indistinct_sets(count, apart)) == largest
    shown = letters(count, apart)
    for i, j in itertools.combinations(range(count), 2):
        assert bool(set(shown[i]) & set(shown[j])) == ((i, j) not in apart)
    assert "".join(sorted(set("".join(shown)))) == "abcdefghijklmnopqrstuvwxyz"[: len(largest)]


def test_letters_by_hand():
    assert letters(4, [(0, 3), (0, 2), (1, 3)]) == ("a", "ab", "bc", "c")
    assert letters(3, []) == ("a", "a", "a")
    assert letters(3, [(0, 1), (1, 2), (2, 0)]) == ("a", "b", "c")
    thirty = letters(30, itertools.combinations(range(30), 2))
    assert thirty[24:29] == ("y", "z", "a2", "b2", "c2")


@pytest.mark.parametrize("pair", [(0, 0), (0, 2), (-1, 0)])
def test_what_is_no_pair_is_refused(pair):
    with pytest.raises(ValueError, match="is no pair of two members from 0 to 1"):
        letters(2, [pair])
