import csv
import pathlib

import pytest

from prune_jax.fairness import published
from prune_jax.schedules import LRSchedule
from prune_jax.trainability import (
    compare_trainability,
    epochs_to,
    equivalent_epochs,
    trainability_accuracy,
)


def test_mean_over_the_first_stage_only():
    schedule = LRSchedule.parse("0:1e-2,3:1e-3", epochs=5)
    assert trainability_accuracy([10.0, 20.0, 60.0, 99.0, 99.0], schedule) == pytest.approx(30.0)


def test_a_schedule_without_drops_counts_every_epoch():
    assert trainability_accuracy([1.0, 2.0], LRSchedule.parse("0:1e-2", epochs=2)) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("panel", "text", "epochs", "wanted"),
    [
        ("fig2a", "0:1e-3,30:1e-4,45:1e-5", 60, 58.19),
        ("fig3_1a", "0:1e-2,30:1e-3,60:1e-4,75:1e-5", 90, 67.45),
        ("fig3_2a", "0:1e-4,15:1e-5", 30, 17.93),
    ],
)
def test_published_curves_give_what_eq_1_says(panel, text, epochs, wanted):
    import prune_jax.fairness

    path = pathlib.Path(prune_jax.fairness.__file__).parent / "fig2_fig3_points.csv"
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["panel"] == panel]
    curve = [float(row["test_acc_read"]) for row in sorted(rows, key=lambda row: int(row["epoch"]))]
    assert trainability_accuracy(curve, LRSchedule.parse(text, epochs=epochs)) == pytest.approx(
        wanted, abs=0.005
    )


def test_too_short_or_broken_curves_are_refused():
    schedule = LRSchedule.parse("0:1e-2,3:1e-3", epochs=5)
    with pytest.raises(ValueError, match="needs the 3 epochs of its first LR stage, got 2"):
        trainability_accuracy([1.0, 2.0], schedule)
    with pytest.raises(ValueError, match="epoch 2 is not finite"):
        trainability_accuracy([1.0, float("nan"), 2.0], schedule)


def test_runs_under_one_schedule_are_compared():
    schedule = LRSchedule.parse("0:1e-2,2:1e-3", epochs=3)
    # the same schedule in another spelling is the same schedule
    again = LRSchedule.parse("0:0.01,1:0.01,2:0.001", epochs=3)
    got = compare_trainability(([10.0, 30.0, 90.0], schedule), ([10.0, 20.0, 95.0], again))
    assert got == (20.0, 15.0, 5.0)
    assert got.difference == 5.0


@pytest.mark.parametrize(("text", "epochs"), [("0:1e-1,2:1e-3", 3), ("0:1e-2,2:1e-3", 4), ("0:1e-2", 3)])
def test_runs_under_different_schedules_are_refused_by_name(text, epochs):
    schedule = LRSchedule.parse("0:1e-2,2:1e-3", epochs=3)
    other = LRSchedule.parse(text, epochs=epochs)
    curve = [10.0] * 4
    with pytest.raises(ValueError, match="only under the same schedule") as caught:
        compare_trainability((curve, schedule), (curve, other))
    assert f"'{schedule}' (3 epochs)" in str(caught.value)
    assert f"'{other}' ({epochs} epochs)" in str(caught.value)


@pytest.mark.parametrize(("target", "wanted"), [(5.0, 1), (10.0, 1), (10.1, 3), (30.0, 3), (30.1, None)])
def test_epochs_to_counts_from_one_and_says_none_when_never_reached(target, wanted):
    assert epochs_to([10.0, 5.0, 30.0, 20.0], target) == wanted


def test_equivalent_epochs_of_one_run_counts_its_epochs():
    assert equivalent_epochs([10.0, 20.0, 30.0], 20.0) == 2


def table5(prefix):
    rows = [row for row in published.rows("table5") if row["label"].startswith(prefix)]
    return {int(row["extra_epochs"]): row["acc_mean"] for row in rows}


@pytest.mark.parametrize(
    ("small", "large", "wanted"),
    [
        ("P30F90, 1e-2", "P30F90, 1e-1", 60),
        ("P90F30, 1e-4", "P90F30, 1e-2", 1485),
        # +180 epochs end at 77.33, near 77.81 but never there: no number
        ("P60F60, 1e-3", "P60F60, 1e-2", None),
    ],
)
def test_the_plus_n_epochs_of_table_5(small, large, wanted):
    assert equivalent_epochs(table5(small), table5(large)[0]) == wanted


def test_the_extended_curve_of_figure_3_crosses_the_short_ones_end():
    """Facts read off Figure 3 (2.b): 61.6 after 120 epochs, and 30.1 is where the unextended run ends."""
    rows = [row for row in published.rows("fig2_fig3_points") if row["panel"] == "fig3_2b"]
    curve = [row["test_acc_read"] for row in sorted(rows, key=lambda row: row["epoch"])]
    assert epochs_to(curve, 61.6) <= 120
    assert epochs_to(curve, 78.6) is None  # the best of the curve is 78.58


@pytest.mark.parametrize(
    ("curve", "target", "message"),
    [
        ([], 1.0, "curve is empty"),
        ({}, 1.0, "curve is empty"),
        ([1.0, float("nan")], 1.0, "after epoch 2 is not finite"),
        ([1.0], float("inf"), "target accuracy is inf"),
        ({-1: 1.0}, 1.0, "whole numbers >= 0, got -1"),
        ({0.5: 1.0}, 1.0, "whole numbers >= 0, got 0.5"),
    ],
)
def test_broken_curves_are_refused(curve, target, message):
    with pytest.raises(ValueError, match=message):
        equivalent_epochs(curve, target)


def test_a_schedule_may_be_written_as_in_the_paper():
    assert trainability_accuracy([60, 70, 80], "0:1e-2,2:1e-3") == 65
    assert trainability_accuracy([60, 70, 80], "0:1e-2") == 70
