"""``python -m prune_jax record TABLE.csv --out=DIR``: records from a table that somebody typed in."""

import argparse
import re
import sys
from pathlib import Path

from prune_jax.fairness.storage import write
from prune_jax.fairness.submission import suspicious
from prune_jax.fairness.table_file import COLUMNS, read_csv
from prune_jax.fairness.table_records import records


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``record``."""
    parser.add_argument("table", metavar="TABLE.csv", help=f"columns: {', '.join(COLUMNS)}, setting:NAME")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="result folder; records go to DIR/records"
    )


def run(args: argparse.Namespace) -> int:
    """Write a record for each row, all or none. Name what contradicts itself. Returns 0, or 2 on bad input."""
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


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "record"
