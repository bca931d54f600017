"""Schedules over another number of epochs, against the shares written out by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_jax.schedules import LRSchedule, cosine, halving, resize

SCRATCH = LRSchedule.parse("0:1e-1,30:1e-2,60:1e-3,90:1e-4,105:1e-5", 120)


@pytest.mark.parametrize(
    ("epochs", "text"),
    [
        (120, "0:0.1,30:0.01,60:0.001,90:0.0001,105:1e-05"),
        (8, "0:0.1,2:0.01,4:0.001,6:0.0001,7:1e-05"),
        (240, "0:0.1,60:0.01,120:0.001,180:0.0001,210:1e-05"),
        (4, "0:0.1,1:0.01,2:0.001,3:0.0001"),  # 105 / 120 of 4 is 3.5, up to 4: no epoch is left for it
        (1, "0:0.1"),
    ],
)
def test_starts_keep_their_share(epochs, text):
    assert resize(SCRATCH, epochs) == LRSchedule.parse(text, epochs)


def test_a_curve_is_squeezed_whole():
    assert resize(cosine(200, 0.1, 0.001), 10) == cosine(10, 0.1, 0.001)


def test_a_part_of_a_curve_is_refused():
    with pytest.raises(ValueError, match="part of a curve"):
        resize(cosine(200, 0.1, 0.001).tail(50), 10)


@settings(derandomize=True, max_examples=50, deadline=None)
@given(st.integers(20, 300), st.integers(1, 400))
def test_lrs_come_in_the_same_order(epochs, target):
    whole = halving(epochs, 0.1)
    lrs = [lr for _, _, lr in whole.stages]
    new = [lr for _, _, lr in resize(whole, target).stages]
    assert new == [lr for lr in lrs if lr in new]
    assert resize(whole, epochs) == whole
