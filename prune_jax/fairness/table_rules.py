"""Rules that a table's own numbers must obey, whatever the network."""

import itertools
from collections.abc import Sequence

from prune_jax.fairness.anomaly import Anomaly, Row, label, where

ACCURACY = ("acc_mean", "accuracy", "acc")
CHANGE = ("delta", "change")
RISING = ("speedup", "sparsity_pct")


def in_range(rows: Sequence[Row], table: str) -> list[Anomaly]:
    """Accuracies lie in 0 to 100 percent, stds are not negative."""
    found = []
    for row in rows:
        for name in (*ACCURACY, "base_acc", "trainability_acc", "acc_std"):
            value = row.get(name)
            top = float("inf") if name == "acc_std" else 100.0
            if value is not None and not 0.0 <= value <= top:
                place, wanted = f"{where(row)} {name}", f"0 to {top:g}"
                found.append(Anomaly(table, "range", place, f"{value:g}", wanted))
    return found


def drop_follows(rows: Sequence[Row], table: str) -> list[Anomaly]:
    """The printed change is pruned minus base accuracy; three roundings to 0.01 may differ by 0.015."""
    found = []
    for row in rows:
        accuracy, change = (_first(row, names) for names in (ACCURACY, CHANGE))
        base = row.get("base_acc")
        if accuracy is None or change is None or base is None:
            continue
        if abs(change - (accuracy - base)) > 0.015 + 1e-9:
            found.append(Anomaly(table, "drop", where(row), f"{change:+.2f}", f"{accuracy - base:+.2f}"))
    return found


def rising(rows: Sequence[Row], table: str) -> list[Anomaly]:
    """Within a label, speedup and sparsity rise with the pruning ratio."""
    found = []
    for name, values in itertools.product(dict.fromkeys(map(label, rows)), RISING):
        cells = [row for row in rows if label(row) == name and row.get(values) is not None]
        cells.sort(key=lambda row: row["pruning_ratio"])
        for low, high in itertools.pairwise(cells):
            if high["pruning_ratio"] > low["pruning_ratio"] and high[values] <= low[values]:
                expected = f"more than {low[values]:g}, the value at ratio {low['pruning_ratio']:g}"
                place = f"{where(high)} {values}"
                found.append(Anomaly(table, "monotone", place, f"{high[values]:g}", expected))
    return found


def below_last(rows: Sequence[Row], table: str) -> list[Anomaly]:
    """A mean of test accuracies over the first LR stage, Eq. (1), stays below the run's last accuracy.

    No law, but retraining improves as the LR falls in every curve of the paper.
    """
    return [
        Anomaly(
            table,
            "trainability",
            where(row),
            f"{row['trainability_acc']:.2f}",
            f"below {row['acc_mean']:.2f}",
        )
        for row in rows
        if row["trainability_acc"] is not None and row["trainability_acc"] > row["acc_mean"]
    ]


def _first(row: Row, names: Sequence[str]) -> float | None:
    return next((row[name] for name in names if row.get(name) is not None), None)
