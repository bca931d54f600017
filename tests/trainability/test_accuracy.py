import csv
import pathlib

import pytest

from prune_jax.schedules import LRSchedule
from prune_jax.trainability import trainability_accuracy


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
