"""``python -m prune_jax record TABLE.csv --out=DIR``: records from a table that somebody typed in."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prune_jax.fairness.record import RunRecord
from prune_jax.fairness.storage import write
from prune_jax.fairness.table_file import COLUMNS, read_csv
from prune_jax.fairness.table_records import records
from prune_jax.fairness.validation import validate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``record``."""
    parser.add_argument("table", metavar="TABLE.csv", help=f"columns: {', '.join(COLUMNS)}, setting:NAME")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="result folder; records go to DIR/records"
    )


def run(args: argparse.Namespace) -> int:
    """Write a record for each row, all or none; name what contradicts itself. Returns 0, or 2 on bad input."""
    try:
        made = records(read_csv(args.table), args.table)
        folder = Path(args.out) / "records"
        there = sorted(folder.glob("*.json"))
        if there:
            raise ValueError(f"{folder} holds {len(there)} records already; choose a new folder for --out")
        for number, record in enumerate(made, start=1):
            write(record, folder / f"{number:03d}-{_slug(record.name)}.json")
    except (OSError, ValueError) as error:
        print(f"record: {error}", file=sys.stderr)
        return 2
    for anomaly in suspicious(made, args.table):
        print(f"look again: {anomaly}", file=sys.stderr)
    print(f"{len(made)} records in {folder}; python -m prune_jax compare {args.out}")
    return 0


def suspicious(made: Sequence[RunRecord], table: str) -> tuple[Any, ...]:
    """What ``validate`` finds in records: accuracies as fractions, costs that contradict their speedup."""
    return validate([_row(record) for record in made], table)


def _row(record: RunRecord) -> dict[str, Any]:
    percent, summary, costs = record.measured.unit == "%", record.summary, record.costs
    means = [r.last_accuracy for r in record.results]
    value = sum(means) / len(means) if means else summary.mean if summary else None
    base = record.results[0].base_accuracy if means else summary.base_accuracy if summary else None
    return {
        "label": record.name,
        "acc": value if percent else None,
        "base_acc": base if percent else None,
        "speedup": costs.speedup,
        "macs": costs.pruned_macs,
        "base_macs": costs.dense_macs,
        "compression": costs.compression,
        "params": costs.pruned_params,
        "base_params": costs.dense_params,
    }


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "record"
