"""Rows of Tables 6 and 7 (App. C): labels as printed, step and cosine schedules."""

from prune_jax.experiment.protocols import recipes, table6
from prune_jax.fairness import published
from prune_jax.schedules import LRSchedule, cosine


def config(shorten=1.0):
    made = recipes.cifar("x", "cifar10", "resnet56", batch_size=128)
    made.dense = recipes.plan_of(200, "0:1e-1,100:1e-2,150:1e-3")
    made.retrain_epochs = 120
    made.retrain_lrs, made.final_lr, made.ratios = (1e-3, 1e-2), 1e-4, (0.3, 0.5)
    made.shorten = shorten
    return made


def test_rows_carry_the_printed_labels():
    printed = dict.fromkeys(row["label"] for row in published.rows("table6"))
    assert [row.label for row in table6.rows(config())] == list(printed)


def test_schedules_are_the_papers():
    rows = {row.label: row for row in table6.rows(config())}
    base = LRSchedule.parse("0:1e-1,100:1e-2,150:1e-3", 200)
    assert rows["Scratch (Step LR)"].last == base
    assert rows["Scratch (Cosine LR)"].last == cosine(200, 1e-1, 1e-3)
    assert rows["L1 (Step LR 0.01)"].last == LRSchedule.parse("0:1e-2,60:1e-3,90:1e-4", 120)
    assert rows["L1 (Step LR 0.001)"].last == LRSchedule.parse("0:1e-3,60:1e-4", 120)
    assert rows["L1 (Cosine LR 0.01)"].last == cosine(120, 1e-2, 1e-4)
    assert {row.pretrain for row in rows.values()} == {None, base}


def test_shortened_rows_are_whole_curves():
    rows = {row.label: row for row in table6.rows(config(20))}
    assert rows["Scratch (Cosine LR)"].last == cosine(10, 1e-1, 1e-3)
    assert rows["L1 (Cosine LR 0.001)"].last == cosine(6, 1e-3, 1e-4)
    assert rows["L1 (Step LR 0.001)"].pretrain == LRSchedule.parse("0:1e-1,5:1e-2,8:1e-3", 10)


def test_every_row_runs_at_every_ratio():
    entries = table6.entries(config())
    assert len({entry["label"] for entry in entries}) == len(entries) == 12
    assert {entry["sparsify.ratio"] for entry in entries} == {0.3, 0.5}
