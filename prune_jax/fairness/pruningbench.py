"""PruningBench's published numbers as rows, as a table to validate, and as records.

Source of ``pruningbench.csv`` beside this file, copied cell by cell: the leaderboards of "A Comprehensive Study of
Structural Pruning for Vision Models" (arXiv 2406.12315), https://github.com/HollyLee2000/PruningBench. Numbers alone
were taken. No seeds and no standard deviations are published there. ``rank`` is within a task, a speedup and a track:
with a regulariser before pruning, or without.
"""

from collections.abc import Sequence
from typing import Any

from prune_jax.fairness.record import Axes, Costs, RunRecord, Stage, Summary

Row = dict[str, Any]
NAME = "pruningbench"
SOURCE = "PruningBench, arXiv 2406.12315, leaderboards"


def method(row: Row) -> str:
    """The criterion, and the regulariser where there is one: 'MagnitudeL2 + GroupLASSO'."""
    return str(row["importance"]) + (f" + {row['regularizer']}" if row["regularizer"] else "")


def task(row: Row) -> tuple[str, str]:
    """Network and data set, in this package's words.

    >>> task({"task": "Resnet-18 on Imagenet"})
    ('resnet18', 'imagenet')
    """
    network, _, dataset = str(row["task"]).partition(" on ")
    return network.lower().replace("-", ""), dataset.lower()


def to_validate(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows under the column names that ``validate`` knows."""
    return tuple(_named(row) for row in rows)


def _named(row: Row) -> Row:
    network, dataset = task(row)
    track = "regularised" if row["regularizer"] else "plain"
    return {
        "label": _name(row),
        "method": method(row),
        "network": network,
        "dataset": dataset,
        "group": f"{row['task']} {row['mac_speedup']:g}x {track}",
        "acc": row["pruned"],
        "base_acc": row["base"],
        "delta": row["delta"],
        "rank": row["rank"],
        "mac_speedup": row["mac_speedup"],
        "params_left_m": row["params_left_m"],
        "params_left_pct": row["params_left_pct"],
    }


def records(rows: Sequence[Row]) -> tuple[RunRecord, ...]:
    """A record for each row. What is not published stays unstated: seeds, std, base model, epochs, LR schedules."""
    return tuple(_record(row) for row in rows)


def _record(row: Row) -> RunRecord:
    network, dataset = task(row)
    return RunRecord(
        name=_name(row),
        dataset=dataset,
        network=network,
        method=method(row),
        axes=Axes(base_model="pretrained", criterion=str(row["importance"])),
        costs=Costs(
            pruned_params=row["params_left_m"] * 1e6,
            speedup=row["mac_speedup"],
            compression=100.0 / row["params_left_pct"],
        ),
        stages=(Stage("pretrain"), Stage("sparsify"), Stage("retrain")),
        summary=Summary(row["pruned"], base_accuracy=row["base"]),
        config={key: row[key] for key in ("rank", "params_left_pct", "step_seconds", "reg_seconds")},
        source=SOURCE,
    )


def _name(row: Row) -> str:
    return f"{row['task']} {row['mac_speedup']:g}x {method(row)}"
