"""``python -m prune_jax report RESULTS --table=4``: our runs beside a table of the paper, or a report's own tables."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from prune_jax import atomic, fairness
from prune_jax.nearest import unknown
from prune_jax.report import beside_paper, formats, paper_html
from prune_jax.report.write import TABLES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``report``."""
    parser.add_argument("results", nargs="+", help="result folders, such as runs/table4")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--table", type=int, help="a table of the paper: 1, 4, 5, 6, 7 or 8")
    which.add_argument("--section", help=f"tables of a report: all, {', '.join(TABLES)}")
    parser.add_argument("--format", default="md", help=f"of what is printed: {', '.join(formats.names())}")
    parser.add_argument(
        "--html", help="where a paper's table goes as HTML; with md by default RESULTS/tableN.html"
    )


def run(args: argparse.Namespace) -> int:
    """Print tables in the format asked for, and write the paper's as HTML too. Returns 0, or 2 on bad input."""
    try:
        records = [record for folder in args.results for record in fairness.read_folder(folder)]
        shown = (
            sections(args.section, records) if args.section else beside_paper.markdown(args.table, records)
        )
        shown = formats.convert(shown, args.format)
        path = _html_path(args)
        if path:
            atomic.write_text(path, paper_html.page(args.table, records))
    except (KeyError, OSError, ValueError) as error:
        message = error.args[0] if isinstance(error, KeyError) else error
        print(f"report: {message}", file=sys.stderr)
        return 2
    print(
        f"{shown}\nHTML: {path}" if path and args.format == "md" else shown,
        end="" if args.format != "md" else "\n",
    )
    return 0


def sections(name: str, records: Sequence[fairness.RunRecord]) -> str:
    """A report's section of that name as Markdown, or with 'all' every one that these records fill.

    Raises KeyError for an unknown section.
    """
    if name != "all" and name not in TABLES:
        raise KeyError(unknown("section", name, ("all", *TABLES)))
    made = [(heading, table(records)) for key, (heading, table) in TABLES.items() if name in ("all", key)]
    return "\n\n".join(f"**{heading}**\n\n{text}" for heading, text in made if "|" in text or name != "all")


def _html_path(args: argparse.Namespace) -> Path | None:
    if args.table is None:
        return None
    if args.html:
        return Path(args.html)
    return Path(args.results[0]) / f"table{args.table}.html" if args.format == "md" else None
