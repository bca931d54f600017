"""Stratified subsets of a training split: shares worked out by hand, the same draw again, whole and streamed."""

import numpy as np
import pytest

from prune_jax import data

LABELS = np.repeat([0, 1, 2], [50, 30, 20])


@pytest.mark.parametrize(
    ("examples", "counts"),
    [
        (10, [5, 3, 2]),
        (7, [4, 2, 1]),  # shares 3.5, 2.1, 1.4: the one left goes to the largest remainder
        (5, [3, 1, 1]),  # 2.5, 1.5, 1.0: of equal remainders the lower class
        (100, [50, 30, 20]),
    ],
)
def test_shares_by_hand(examples, counts):
    positions = data.stratified_subset(LABELS, examples, seed=0)
    assert np.bincount(LABELS[positions]).tolist() == counts
    assert (np.diff(positions) > 0).all()


def test_the_seed_decides_the_draw():
    first, again, other = (data.stratified_subset(LABELS, 20, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("examples", [-1, 2, 101])
def test_too_few_and_too_many_are_refused(examples):
    with pytest.raises(
        ValueError, match=rf"train_examples is {examples}; allowed: 0 for all, or 3 .* to 100"
    ):
        data.stratified_subset(LABELS, examples, seed=0)


def test_whole_and_streamed_sets_take_the_same_examples(tmp_path):
    whole, streamed = (
        data.open_dataset("digits", data_dir=str(tmp_path), stream=stream, train_examples=100, split_seed=3)
        for stream in (False, True)
    )
    everything = data.open_dataset("digits", data_dir=str(tmp_path), split_seed=3)
    assert whole.train_size == streamed.train_size == 100
    positions = data.stratified_subset(everything.train.labels, 100, seed=3)
    np.testing.assert_array_equal(whole.train.images, everything.train.images[positions])
    np.testing.assert_array_equal(streamed.train.records, positions)
    np.testing.assert_array_equal(whole.test.images, everything.test.images)
