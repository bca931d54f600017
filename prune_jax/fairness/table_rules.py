"""Rules that a table's own numbers must obey, whatever the network."""

import itertools
from collections.abc import Sequence

from prune_jax.fairness.anomaly import Anomaly, Row, label, where
from prune_jax.fairness.cells import ACCURACY, half_unit

CHANGE = ("delta", "change")
RISING = ("speedup", "sparsity_pct")


def in_range(rows: Sequence[Row], table: str) -> list[Anomaly]:
    """Accuracies lie in 0 to 100 percent, pruning ratios in 0 to 1, stds are not negative."""
    found = []
    for row in rows:
        for name in (*ACCURACY, "base_acc", "trainability_acc", "acc_std", "pruning_ratio"):
            value = row.get(name)
            top = {"acc_std": float("inf"), "pruning_ratio": 1.0}.get(name, 100.0)
            if value is not None and not 0.0 <= value <= top:
                place, wanted = f"{where(row)} {name}", f"0 to {top:g}"
                found.append(Anomaly(table, "range", place, f"{value:g}", wanted))
    return found


def drop_follows(rows: Sequence[Row], table: str) -> list[Anomaly]:
    """The printed change is pruned minus base accuracy. Three roundings to 0.01 may differ by 0.015.

    Of fractions the roundings are those of the digits shown.
    """
    found = []
    for row in rows:
        accuracy, change = (_first(row, names) for names in (ACCURACY, CHANGE))
        base = row.get("base_acc")
        if accuracy is None or change is None or base is None:
            continue
        fractions = max(accuracy, base) <= 1.0
        slack = sum(map(half_unit, (accuracy, change, base))) if fractions else 0.015
        if abs(change - (accuracy - base)) > slack + 1e-9:
            digits = 4 if fractions else 2
            texts = (f"{value:+.{digits}f}" for value in (change, accuracy - base))
            found.append(Anomaly(table, "drop", where(row), *texts))
    return found


def no_fractions(rows: Sequence[Row], table: str) -> list[Anomaly]:
    """Accuracies are percentages: one of at most 1 is suspicious, unless the row says that it fell so low."""
    found = []
    for row in rows:
        accuracy, base = _first(row, ACCURACY), row.get("base_acc")
        cells = [
            ("acc", accuracy, _is_fraction(row, accuracy, base)),
            ("base_acc", base, (base or 2.0) <= 1.0),
        ]
        for name, value, suspicious in cells:
            if value is None or not suspicious:
                continue
            expected = f"{100.0 * value:g}, a percentage"
            found.append(Anomaly(table, "fraction", f"{where(row)} {name}", f"{value:g}", expected))
    return found


def _is_fraction(row: Row, accuracy: float | None, base: float | None) -> bool:
    if accuracy is None or not 0.0 < accuracy <= 1.0:
        return False
    if base is None or base <= 1.0:
        return True
    change = _first(row, CHANGE)
    if change is not None:
        return abs(change - (accuracy - base)) > 0.015 + 1e-9
    return abs(100.0 * accuracy - base) < 30.0


def ranks_follow(rows: Sequence[Row], table: str) -> list[Anomaly]:
    """Within a ranking, the better rank has the higher accuracy, and a rank is given once.

    Rows are of one ranking where ``group`` says so, else where network, data set and speedup are the same.
    """
    found = []
    keys = ("network", "dataset", "speedup", "mac_speedup")
    groups: dict[object, list[Row]] = {}
    for row in rows:
        if row.get("rank") is not None and _first(row, ACCURACY) is not None:
            groups.setdefault(row.get("group") or tuple(row.get(key) for key in keys), []).append(row)
    for cells in groups.values():
        cells.sort(key=lambda row: row["rank"])
        for better, worse in itertools.pairwise(cells):
            high, low = (_first(row, ACCURACY) or 0.0 for row in (better, worse))
            if low > high or (better["rank"] == worse["rank"] and low != high):
                place, printed = f"{where(worse)} rank", f"{worse['rank']:g} with {low:g}"
                expected = (
                    f"{'above' if low > high else 'after'} {label(better)}, {better['rank']:g} with {high:g}"
                )
                found.append(Anomaly(table, "rank", place, printed, expected))
    return found


def shrinking(rows: Sequence[Row], table: str) -> list[Anomaly]:
    """Of one method and network, a larger speedup leaves fewer params.

    It is no law, as layers with few multiply-accumulates may hold many params. But it is worth a look.
    """
    found = []
    groups: dict[object, list[Row]] = {}
    for row in rows:
        key = (row.get("method") or label(row), row.get("network"), row.get("dataset"))
        groups.setdefault(key, []).append(row)
    for cells in groups.values():
        cells = [row for row in cells if row.get("params_left_m") is not None and _speedup(row)]
        for low, high in itertools.pairwise(sorted(cells, key=_speedup)):
            if _speedup(high) > _speedup(low) and high["params_left_m"] >= low["params_left_m"]:
                place = f"{where(high)} params_left_m"
                expected = f"less than {low['params_left_m']:g}, what is left at {_speedup(low):g}x"
                found.append(Anomaly(table, "shrinking", place, f"{high['params_left_m']:g}", expected))
    return found


def _speedup(row: Row) -> float:
    return float(row.get("speedup") or row.get("mac_speedup") or 0.0)


def rising(rows: Sequence[Row], table: str) -> list[Anomaly]:
    """Within a label, speedup and sparsity rise with the pruning ratio."""
    found = []
    for name, values in itertools.product(dict.fromkeys(map(_series, rows)), RISING):
        cells = [row for row in rows if _series(row) == name and row.get(values) is not None]
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


def _series(row: Row) -> tuple[str, object, object]:
    return label(row), row.get("network"), row.get("dataset")


def _first(row: Row, names: Sequence[str]) -> float | None:
    return next((row[name] for name in names if row.get(name) is not None), None)
