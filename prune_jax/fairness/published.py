"""The paper's printed tables, its figures' points, and PruningBench's leaderboards, as rows and as records.

``pruningbench.py`` names the source of ``pruningbench.csv``. Source of every other CSV beside this file: "Why is the
State of Neural Network Pruning so Confusing? On the Fairness, Comparison Setup, and Trainability in Network Pruning"
(arXiv 2301.05219), copied cell by cell. The figures' points are read off the vector markers of its PDF. Columns named
``*_recomputed`` are ours.
"""

import csv
import functools
from collections.abc import Callable, Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from prune_jax.fairness import pruningbench
from prune_jax.fairness import published_records as build
from prune_jax.fairness.record import RunRecord
from prune_jax.nearest import unknown

Row = dict[str, Any]
PAPER = "arXiv 2301.05219"
TABLES: Mapping[str, str] = MappingProxyType(
    {
        "table1": "Table 1: published ResNet50 results on ImageNet",
        "table2": "Table 2: comparison setups",
        "table3": "Table 3: finetuning settings of published work",
        "table4": "Table 4: L1-norm pruning and scratch, ResNet34 on ImageNet100",
        "table5": "Table 5: extended retraining and trainability accuracy, ratio 0.95",
        "table6": "Table 6: step and cosine LR, ResNet56 on CIFAR10",
        "table7": "Table 7: step and cosine LR, VGG19 on CIFAR100",
        "table8": "Table 8: P90F30 extended (the last five rows of Table 5)",
        "fig2_fig3_points": "Figures 2 and 3: test accuracy per epoch, read off the markers",
        "fig2_fig3_summary": "Figures 2 and 3: summary of the curves",
    }
)


# Of others than the paper's authors, with their source.
OTHERS: Mapping[str, str] = MappingProxyType({pruningbench.NAME: pruningbench.SOURCE})


def rows(table: str) -> tuple[Row, ...]:
    """The cells of a table: numbers as float, empty cells as None. KeyError for an unknown table."""
    if table not in TABLES and table not in OTHERS:
        raise KeyError(unknown("published table", table, (*TABLES, *OTHERS)))
    return tuple(dict(row) for row in _read(table))


@functools.cache  # a memo: a report asks for the same table many times
def _read(table: str) -> tuple[Row, ...]:
    text = files("prune_jax.fairness").joinpath(f"{table}.csv").read_text(encoding="utf-8")
    reader = csv.DictReader(text.splitlines())
    return tuple({key: _cell(value) for key, value in row.items()} for row in reader)


def source(table: str) -> str:
    """Where the table is printed."""
    return OTHERS[table] if table in OTHERS else f"{PAPER}, {TABLES[table]}"


def records(table: str) -> tuple[RunRecord, ...]:
    """A table's rows as records, as far as the paper states them. What it doesn't state stays None.

    ``fig2_fig3_points`` gives one record per curve. n = 3 where the paper says "at least three" runs.
    KeyError for a table that holds no runs.
    """
    if table not in _BUILDERS:
        raise KeyError(unknown("table of runs", table, _BUILDERS))
    return _BUILDERS[table](rows, source(table))


def _cell(value: str) -> Any:
    if value == "":
        return None
    try:
        return float(value)
    except ValueError:
        return value


_BUILDERS: Mapping[str, Callable[[Callable[[str], tuple[Row, ...]], str], tuple[RunRecord, ...]]] = (
    MappingProxyType(
        {
            "table1": lambda read, where: build.table1(read("table1"), read("table3"), where),
            "table3": lambda read, where: build.table3(read("table3"), where),
            "table4": lambda read, where: build.table4(read("table4"), where),
            "table5": lambda read, where: build.table5(read("table5"), read("table4"), where),
            "table6": lambda read, where: build.cifar(read("table6"), where),
            "table7": lambda read, where: build.cifar(read("table7"), where),
            "table8": lambda read, where: build.table5(read("table8"), read("table4"), where),
            "fig2_fig3_points": lambda read, where: build.figures(
                read("fig2_fig3_points"), read("fig2_fig3_summary"), where
            ),
            pruningbench.NAME: lambda read, _: pruningbench.records(read(pruningbench.NAME)),
        }
    )
)
