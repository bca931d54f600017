"""Schedules against the paper's own lists (hand-written), optax and the laws of head, tail and compose."""

import doctest
import importlib
import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_jax.schedules import LRSchedule, Piece, compose, cosine, cyclic_restart, halving, linear, warm_up

# Stated in the paper or read off its figures; each is (text as printed, epochs).
SCRATCH = ("0:1e-1,30:1e-2,60:1e-3,90:1e-4,105:1e-5", 120)
P30F90_LARGE = ("0:1e-1,30:1e-2,60:1e-3,75:1e-4,83:1e-5", 90)
P60F60_LARGE = ("0:1e-2,30:1e-3,45:1e-4,53:1e-5", 60)
RESNET50 = ("0:1e-2,30:1e-3,60:1e-4,75:1e-5", 90)
PYTORCH = ("0:1e-1,30:1e-2,60:1e-3", 90)
CIFAR_SCRATCH = ("0:0.1,100:0.01,150:0.001", 200)
CIFAR_FINETUNE = ("0:0.01,60:0.001,90:0.0001", 120)
FIG2A = ("0:1e-3,30:1e-4,45:1e-5", 60)
FIG3_2A = ("0:1e-4,15:1e-5", 30)
STATED = [
    SCRATCH,
    P30F90_LARGE,
    P60F60_LARGE,
    RESNET50,
    PYTORCH,
    CIFAR_SCRATCH,
    CIFAR_FINETUNE,
    FIG2A,
    FIG3_2A,
]


def by_hand(text, epochs):
    """Each epoch's LR, written without the library: the LR of the largest start <= epoch."""
    starts = {int(part.split(":")[0]): float(part.split(":")[1]) for part in text.split(",")}
    return [starts[max(s for s in starts if s <= epoch)] for epoch in range(epochs)]


def all_lrs(schedule):
    return [schedule.at(epoch) for epoch in range(schedule.epochs)]


@pytest.mark.parametrize(("text", "epochs"), STATED)
def test_stated_schedules_are_looked_up_by_largest_start(text, epochs):
    schedule = LRSchedule.parse(text, epochs)
    assert all_lrs(schedule) == by_hand(text, epochs)
    assert LRSchedule.parse(str(schedule), epochs) == schedule


def test_canonical_text_equality_and_hash():
    spelled = LRSchedule.parse(" 0:1e-1, 30:1E-2,75:0.0001,83:1e-5 ", 90)
    assert str(spelled) == "0:0.1,30:0.01,75:0.0001,83:1e-05"
    assert spelled == LRSchedule.parse("0:0.10,30:.01,75:1e-4,83:0.00001", 90)
    assert hash(spelled) == hash(LRSchedule.parse(str(spelled), 90))
    assert spelled != LRSchedule.parse(str(spelled), 91)
    assert str(LRSchedule.parse("0:0.1,30:0.1,60:0.01", 90)) == "0:0.1,60:0.01"


def test_stages_and_first_stage():
    schedule = LRSchedule.parse(*FIG2A)
    assert schedule.stages == ((0, 30, 1e-3), (30, 45, 1e-4), (45, 60, 1e-5))
    assert schedule.first_stage == 30
    assert LRSchedule.parse(*FIG3_2A).first_stage == 15
    assert cosine(120, 0.01, 1e-4).first_stage == 120


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ({"epochs": 120, "lr": 1e-1}, SCRATCH),
        ({"epochs": 90, "lr": 1e-1}, P30F90_LARGE),
        ({"epochs": 60, "lr": 1e-2}, P60F60_LARGE),
        ({"epochs": 90, "lr": 1e-2}, RESNET50),
        ({"epochs": 90, "lr": 1e-1, "final_lr": 1e-3}, PYTORCH),
        ({"epochs": 60, "lr": 1e-3}, FIG2A),
        ({"epochs": 30, "lr": 1e-4}, FIG3_2A),
        ({"epochs": 200, "lr": 0.1, "final_lr": 1e-3, "longest_stage": None}, CIFAR_SCRATCH),
        ({"epochs": 120, "lr": 0.01, "final_lr": 1e-4, "longest_stage": None}, CIFAR_FINETUNE),
        ({"epochs": 30, "lr": 1e-2}, ("0:1e-2,15:1e-3,23:1e-4,27:1e-5", 30)),  # P90F30 1e-2
    ],
)
def test_halving_gives_the_paper_schedules(arguments, printed):
    assert halving(**arguments) == LRSchedule.parse(*printed)


# Table 4's S4.2 rows; the last column says whether the halving rule would agree.
TAILS = [
    (15, 1e-1, "0:1e-1,15:1e-2,45:1e-3,75:1e-4,90:1e-5", False),
    (30, 1e-2, "0:1e-2,30:1e-3,60:1e-4,75:1e-5", True),
    (45, 1e-2, "0:1e-2,15:1e-3,45:1e-4,60:1e-5", False),
    (60, 1e-3, "0:1e-3,30:1e-4,45:1e-5", True),
    (75, 1e-3, "0:1e-3,15:1e-4,30:1e-5", False),
    (90, 1e-4, "0:1e-4,15:1e-5", True),
]


@pytest.mark.parametrize(("pruning_epoch", "lr", "text", "rule_agrees"), TAILS)
def test_table4_s42_rows_are_tails_of_scratch(pruning_epoch, lr, text, rule_agrees):
    scratch = LRSchedule.parse(*SCRATCH)
    tail = scratch.tail(pruning_epoch)
    assert tail == LRSchedule.parse(text, 120 - pruning_epoch)
    assert tail.at(0) == lr
    assert (halving(120 - pruning_epoch, lr) == tail) is rule_agrees
    assert compose(scratch.head(pruning_epoch), tail) == scratch


@pytest.mark.parametrize(
    ("base", "extra", "text", "epochs"),
    [
        (FIG2A, 180, "0:1e-3,210:1e-4,225:1e-5", 240),
        (RESNET50, 60, "0:1e-2,90:1e-3,120:1e-4,135:1e-5", 150),
        (FIG3_2A, 1485, "0:1e-4,1500:1e-5", 1515),
    ],
)
def test_extended_runs_of_table5(base, extra, text, epochs):
    extended = LRSchedule.parse(*base).extend(extra)
    assert extended == LRSchedule.parse(text, epochs)
    assert extended.first_stage == LRSchedule.parse(*base).first_stage + extra


def test_cosine_is_pytorchs_closed_form():
    schedule = cosine(200, 0.1, 0.001)
    wanted = [0.001 + 0.5 * (0.1 - 0.001) * (1 + math.cos(math.pi * t / 200)) for t in range(200)]
    np.testing.assert_allclose(all_lrs(schedule), wanted, rtol=1e-12)
    assert str(schedule) == "0:cosine(0.1,0.001)"
    assert str(schedule.tail(50)) == "0:cosine(0.1,0.001,50,200)"


def test_warm_up_keeps_length_and_later_stages():
    schedule = warm_up(LRSchedule.parse("0:0.1,30:0.01", 40), epochs=5, lr=0.02)
    assert str(schedule) == "0:linear(0.02,0.1),5:0.1,30:0.01"
    np.testing.assert_allclose(all_lrs(schedule)[:6], [0.02, 0.036, 0.052, 0.068, 0.084, 0.1], rtol=1e-12)
    assert schedule.epochs == 40


def test_cyclic_restart_rises_for_a_tenth_then_falls():
    lrs = np.array(all_lrs(cyclic_restart(72, lr=0.1, low_lr=0.001)))
    assert lrs[0] == 0.001
    assert lrs.argmax() == 7
    assert lrs.max() == 0.1
    assert (np.diff(lrs[:8]) > 0).all()
    assert (np.diff(lrs[7:]) < 0).all()
    assert lrs[-1] > 0.001


@pytest.mark.parametrize(
    ("text", "epochs", "complaint"),
    [
        ("5:0.1", 10, "starts at epoch 5; the first stage starts at epoch 0"),
        ("0:0.1,30:0.01,20:0.001", 90, "goes backwards to epoch 20"),
        ("0:0.1,30:0.01,30:0.001", 90, "repeats epoch 30"),
        ("0:0.1,30:0", 90, "'30:0.0' is not positive"),
        ("0:-0.1", 90, "not positive"),
        ("0:nan", 90, "not finite"),
        ("0:0.1,30:0.01", 30, "starts at epoch 30, but lasts 30 epochs"),
        ("0:0.1;30:0.01", 90, "'0.1;30:0.01' in '0:0.1;30:0.01' is no learning rate"),
        ("0.1", 90, "'0.1' does not begin with 'EPOCH:'"),
        ("-1:0.1", 90, "does not begin with"),
        ("0:0.1,", 90, "'' does not begin with"),
        ("", 90, "is empty; allowed: 'EPOCH:LR'"),
        (["0:1e-1"], 90, "is empty; allowed: 'EPOCH:LR'"),
        ("0:cos(0.1,0.01)", 90, "'cos' in '0:cos.0.1,0.01.' is no curve; allowed: linear, cosine"),
        ("0:cosine(0.1)", 90, "has 1 arguments; allowed: cosine.FIRST,LAST."),
        ("0:cosine(0.1,0.01,5,x)", 90, "'x' .* is no number of epochs"),
        ("0:cosine(0.1,0.01,5,90)", 90, "needs epochs 5 to 95 of a curve that has 90"),
        ("0:cosine(0.1,0.01,0,0)", 90, "of a curve that has 0"),
        ("0:linear(0,0.1),5:0.1", 90, "not positive"),
        ("0:0.1", 0, "at least 1 epoch, got epochs=0"),
        ("0:0.1", 1.5, "epochs must be a whole number, got 1.5"),
    ],
)
def test_bad_text_is_refused_by_name(text, epochs, complaint):
    with pytest.raises(ValueError, match=complaint):
        LRSchedule.parse(text, epochs)


def test_other_bad_input_is_refused():
    schedule = LRSchedule.parse(*FIG2A)
    for call, complaint in [
        (lambda: schedule.at(60), "epoch 60 lies outside"),
        (lambda: schedule.at(-1), "epoch -1 lies outside"),
        (lambda: schedule.tail(60), "allowed 0 to 59"),
        (lambda: schedule.head(0), "allowed 1 to 60"),
        (lambda: schedule.extend(-1), "got extra=-1"),
        (lambda: cosine(10, 0.1).extend(1), "begins with a curve"),
        (lambda: schedule.optax(0), "steps_per_epoch must be at least 1"),
        (lambda: halving(90, 0.1, 3e-5), "not lr=0.1 divided by a power of 10"),
        (lambda: halving(90, 0.01, 0.1), "final_lr <= lr"),
        (lambda: halving(3, 0.1), "3 epochs can't hold the 5 stages"),
        (lambda: halving(90, 0.1, longest_stage=0), "longest_stage must be at least 1"),
        (lambda: cyclic_restart(1, 0.1, 0.001), "must end within 1"),
        (lambda: LRSchedule((), 3), "at least one piece"),
        (lambda: LRSchedule((Piece(0, "exp", 0.1, 0.2, 0, 3),), 3), "unknown kind 'exp'"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            call()


lrs = st.floats(1e-6, 10.0, allow_nan=False)


@st.composite
def schedules(draw):
    epochs = draw(st.integers(1, 60))
    starts = [0, *sorted(draw(st.sets(st.integers(1, max(1, epochs - 1)), max_size=4)))]
    starts = [start for start in starts if start < epochs]
    kind = st.one_of(
        st.builds(repr, lrs),
        st.builds(lambda name, a, b: f"{name}({a},{b})", st.sampled_from(["cosine", "linear"]), lrs, lrs),
    )
    return LRSchedule.parse(",".join(f"{start}:{draw(kind)}" for start in starts), epochs)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(schedules(), st.data())
def test_laws_of_text_head_tail_and_compose(schedule, data):
    assert LRSchedule.parse(str(schedule), schedule.epochs) == schedule
    assert str(LRSchedule.parse(str(schedule), schedule.epochs)) == str(schedule)
    cut = data.draw(st.integers(0, schedule.epochs - 1))
    tail = schedule.tail(cut)
    np.testing.assert_allclose(all_lrs(tail), all_lrs(schedule)[cut:], rtol=1e-12)
    assert LRSchedule.parse(str(tail), tail.epochs) == tail
    if cut:
        assert compose(schedule.head(cut), tail) == schedule
    starts = [start for start, _, _ in schedule.stages]
    assert starts == sorted(set(starts))
    assert sum(end - start for start, end, _ in schedule.stages) == schedule.epochs


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.integers(5, 400), st.integers(0, 4), st.one_of(st.none(), st.integers(1, 50)))
def test_halving_takes_half_of_the_rest_rounded_up(epochs, decades, cap):
    left, lengths = epochs, []
    for _ in range(decades):
        lengths.append(min(cap or epochs, math.ceil(left / 2)))
        left -= lengths[-1]
    if left < 1:
        with pytest.raises(ValueError, match="can't hold"):
            halving(epochs, 0.1, 10.0 ** -(1 + decades), cap)
        return
    made = halving(epochs, 0.1, float(f"1e-{1 + decades}"), cap)
    assert [end - start for start, end, _ in made.stages] == [*lengths, left]
    assert [lr for _, _, lr in made.stages] == [float(f"1e-{1 + k}") for k in range(decades + 1)]


@pytest.mark.parametrize(
    "schedule",
    [
        LRSchedule.parse(*P30F90_LARGE),
        LRSchedule.parse("0:0.1", 3),
        cosine(20, 0.1, 0.0),
        cosine(20, 0.1, 0.001).tail(7),
        warm_up(LRSchedule.parse("0:0.1,12:0.01", 20), 4, 0.01),
        compose(linear(4, 0.01, 0.2), cosine(9, 0.2, 1e-3)),
    ],
    ids=str,
)
def test_optax_function_equals_at(schedule):
    steps_per_epoch = 3
    jitted = jax.jit(jax.vmap(schedule.optax(steps_per_epoch)))
    steps = np.arange(schedule.epochs * steps_per_epoch)
    wanted = [schedule.at(int(step) // steps_per_epoch) for step in steps]
    # float32 curve evaluation: a few ulp, relative to the largest LR near the end of a cosine
    np.testing.assert_allclose(jitted(steps), wanted, rtol=2e-6, atol=1e-7 * max(wanted))


def test_examples_of_a_retrainings_recipes():
    found = doctest.testmod(importlib.import_module("prune_jax.schedules.after_pretraining"))
    assert found.attempted
    assert not found.failed
