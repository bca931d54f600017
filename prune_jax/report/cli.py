"""``python -m prune_jax report RESULTS --table=4``: our runs beside a table of the paper."""

import argparse
import sys
from pathlib import Path

from prune_jax import atomic, fairness
from prune_jax.report import beside_paper, paper_html


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``report``."""
    parser.add_argument("results", nargs="+", help="result folders, such as runs/table4")
    parser.add_argument("--table", type=int, required=True, help="1, 4, 5, 6, 7 or 8")
    parser.add_argument("--html", help="where the HTML goes; by default RESULTS/tableN.html")


def run(args: argparse.Namespace) -> int:
    """Print the table as text, write it as HTML. Returns 0, or 2 on bad input."""
    try:
        records = [record for folder in args.results for record in fairness.read_folder(folder)]
        shown = beside_paper.markdown(args.table, records)
        path = Path(args.html or Path(args.results[0]) / f"table{args.table}.html")
        atomic.write_text(path, paper_html.page(args.table, records))
    except (KeyError, OSError, ValueError) as error:
        message = error.args[0] if isinstance(error, KeyError) else error
        print(f"report: {message}", file=sys.stderr)
        return 2
    print(f"{shown}\n\nHTML: {path}")
    return 0
