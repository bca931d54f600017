"""``python -m prune_jax ledger RUNS... --out=DIR``: any number of records as one static page."""

import argparse
import sys
from pathlib import Path

from prune_jax.report.ledger.gather import gather
from prune_jax.report.ledger.site import write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``ledger``."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="record files, result folders, folders of those, paper:table4, published:pruningbench",
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="a new folder, or that of an older ledger"
    )
    parser.add_argument("--title", default="Ledger of pruning results", help="of the page")
    parser.add_argument(
        "--tolerance", type=float, default=0.02, help="relative difference at which rates count as the same"
    )


def run(args: argparse.Namespace) -> int:
    """Write the site. Returns 0, 1 where records were left out, 2 on bad input, when nothing is written."""
    try:
        if args.tolerance < 0:
            raise ValueError(f"--tolerance={args.tolerance:g} must be at least 0")
        gathered = gather(args.runs)
        page = write(Path(args.out), gathered, args.tolerance, args.title)
    except (KeyError, ModuleNotFoundError, OSError, ValueError) as error:
        message = error.args[0] if isinstance(error, KeyError) else error
        print(f"ledger: {message}", file=sys.stderr)
        return 2
    for problem in gathered.problems:
        print(f"ledger: {problem}", file=sys.stderr)
    print(f"{len(gathered.entries)} records in {page}")
    return 1 if any(problem.startswith("left out") for problem in gathered.problems) else 0
