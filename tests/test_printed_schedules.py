"""Schedules as papers print them: read where they leave nothing open, else answered with the form to write."""

import pytest

from prune_jax.fairness import Stage
from prune_jax.schedules import LRSchedule, canonical

THREE = "0:0.1,30:0.01,60:0.001"
# Printed -> the same by hand, over 90 epochs.
READ = {
    "0.1, /10 at 30,60": THREE,
    "0.1, ÷10 at epochs 30 and 60": THREE,
    "0.1, divided by 10 at 30/60": THREE,
    "LR 0.1, decayed by 10 at [30, 60]": THREE,
    "0.1, x0.1 at 30, 60": THREE,
    "1e-1, multiplied by 0.1 every 30 epochs": THREE,
    "0.1, /10 every 30": THREE,
    "0.1, /5 @ 45": "0:0.1,45:0.02",
    "step(0.1, 30, 0.1)": THREE,
    "0.1/0.01/0.001 at 30/60": THREE,
    "MultiStep(0.1, [30, 60], 0.1)": THREE,
    "0.01": "0:0.01",
    "0.1, cosine decay to 0": "0:cosine(0.1,0.0)",
    "fixed 0.01": "0:0.01",
    "cosine 0.1 to 0": "0:cosine(0.1,0.0)",
    "Cosine(0.1, 1e-4)": "0:cosine(0.1,0.0001)",
    "0.1 -> 0 linear": "0:linear(0.1,0.0)",
    THREE: THREE,
    "0:cosine(0.1,0)": "0:cosine(0.1,0.0)",
}


@pytest.mark.parametrize("text", READ)
def test_a_printed_schedule_is_read(text):
    assert Stage("retrain", epochs=90, schedule=text).schedule == READ[text]


# Printed -> what it leaves open, and the form that the answer gives.
OPEN = {
    "cosine": ("its LRs", "0:cosine(FIRST,LAST)", "0:cosine(0.1,0)"),
    "0.1, cosine": ("its last LR", "0:cosine(0.1,LAST)", "0:cosine(0.1,0)"),
    "cosine annealing 0.05": ("its last LR", "0:cosine(0.05,LAST)", "0:cosine(0.05,0)"),
    "step(0.1, 30)": ("by how much the LR falls", THREE, "step(0.1, 30, 0.1)"),
    "warmup 5, cosine": ("where the warm-up begins", "0:linear(FIRST,LR),5:cosine(LR,LAST)", "0:linear(0.001,0.1)"),
    "5 epochs warm-up, cosine 0.1": ("where the warm-up begins", "0:linear(FIRST,0.1),5:cosine(0.1,LAST)", "0:linear"),
    "warm-up 5 epochs, 0.1": ("where the warm-up begins", "0:linear(FIRST,0.1),5:0.1", "0:linear(0.001,0.1)"),
}  # fmt: skip


@pytest.mark.parametrize("text", OPEN)
def test_what_is_left_open_is_answered_with_the_form_to_write(text):
    what, form, example = OPEN[text]
    with pytest.raises(ValueError, match="leaves open") as refusal:
        Stage("retrain", epochs=90, schedule=text)
    message = str(refusal.value)
    assert repr(text) in message
    assert what in message
    assert form in message
    assert example in message
    assert "\n" not in message


def test_the_examples_that_answers_give_can_be_read():
    for form in (
        "0:cosine(0.1,0)",
        "0:linear(0.001,0.1),5:cosine(0.1,0)",
        canonical("step(0.1, 30, 0.1)", 90),
    ):
        assert LRSchedule.parse(form, 90).epochs == 90


def test_other_text_is_refused_as_ever_and_decays_past_the_end_are_named():
    with pytest.raises(ValueError, match="does not begin with 'EPOCH:'; allowed"):
        Stage("retrain", epochs=90, schedule="as in ResNet")
    with pytest.raises(ValueError, match="starts at epoch 90, but lasts 90"):
        Stage("retrain", epochs=90, schedule="0.1, /10 at 30,60,90")
    with pytest.raises(ValueError, match="has 2 LRs and 2 epochs"):
        Stage("retrain", epochs=90, schedule="0.1/0.01 at 30/60")
    assert Stage("retrain", epochs=20, schedule="0.1, /10 every 30").schedule == "0:0.1"


def test_rates_are_exact_decimals():
    text = Stage("retrain", epochs=160, schedule="0.1, /10 at 30,60,90,120").schedule
    assert text == "0:0.1,30:0.01,60:0.001,90:0.0001,120:1e-05"
