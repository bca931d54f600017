"""``python -m prune_jax compare A B [C ...] [--require=S3.2]``: the verdict matrix of records on disk."""

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from prune_jax.fairness import published, submission
from prune_jax.fairness.chance import stuck_text
from prune_jax.fairness.comparison import compare, is_testable, sample
from prune_jax.fairness.record import RunRecord
from prune_jax.fairness.setups import SETUPS, STRICTNESS, Verdict, known_setup, strictest_setup
from prune_jax.fairness.storage import read, read_folder
from prune_jax.text_table import aligned

PREFIXES = ("paper:", "published:")
MATRIX = 40  # records. Of more no matrix is printed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``compare``."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="record files, result folders, or published numbers: paper:table1, published:pruningbench",
    )
    parser.add_argument(
        "--select", metavar="TEXT", help="only records whose name holds it, whatever the case"
    )
    parser.add_argument("--require", metavar="SETUP", help=f"exit 1 unless it holds: {', '.join(SETUPS)}")
    parser.add_argument(
        "--validate",
        action="store_true",
        help="exit 1 where a record contradicts itself or lacks what others need to judge it; one record is enough",
    )
    parser.add_argument(
        "--tolerance", type=float, default=0.02, help="relative difference at which rates count as the same"
    )
    parser.add_argument(
        "--pairs",
        type=int,
        default=15,
        help="write a sentence per pair for at most so many pairs (default 15)",
    )


def run(args: argparse.Namespace) -> int:
    """Print matrix and sentences. Returns 0, 1 when ``--require`` or ``--validate`` fails, 2 on bad input."""
    try:
        if args.require is not None:
            known_setup(args.require)
        records = selected(load(args.runs), args.select)
        if len(records) < 2 - args.validate:
            raise ValueError(f"compare needs at least two records, got {len(records)}")
        pairs = {
            (i, j): strictest_setup(records[i], records[j], args.tolerance)
            for i, j in itertools.combinations(range(len(records)), 2)
        }
    except (KeyError, OSError, ValueError) as error:
        message = error.args[0] if isinstance(error, KeyError) else error
        print(f"compare: {message}", file=sys.stderr)
        return 2
    faults = [fault for record in records for fault in submission.faults(record)] if args.validate else []
    for fault in faults:
        print(f"compare: {fault}", file=sys.stderr)
    if len(records) == 1:
        print(f"{records[0].name}: {'not valid' if faults else 'valid'}")
        return 1 if faults else 0
    if len(records) <= MATRIX:
        print(matrix(records, pairs))
    else:
        print(
            f"{len(records)} records: the matrix is left out; --select=TEXT compares those whose name holds TEXT"
        )
    _print_sentences(records, pairs, args)
    for line in stuck_lines(records):
        print(line)
    failing = [v for v in pairs.values() if args.require is not None and not v.holds(args.require)]
    for verdict in failing:
        print(f"{verdict.a} / {verdict.b}: {verdict.explain(args.require)}", file=sys.stderr)
    return 1 if failing or faults else 0


def load(runs: Sequence[str]) -> tuple[RunRecord, ...]:
    """Read records from files, result folders and published tables (``paper:table1``, ``published:pruningbench``)."""
    records: list[RunRecord] = []
    for name in runs:
        if name.startswith(PREFIXES):
            records.extend(published.records(name.partition(":")[2]))
        elif Path(name).is_dir():
            records.extend(read_folder(name))
        else:
            records.append(read(name))
    return tuple(records)


def selected(records: Sequence[RunRecord], text: str | None) -> tuple[RunRecord, ...]:
    """Those whose name holds ``text``. ValueError where none does."""
    if not text:
        return tuple(records)
    found = tuple(record for record in records if text.lower() in record.name.lower())
    if not found:
        raise ValueError(f"--select={text}: none of {len(records)} records has it in its name")
    return found


def conclusion(records: Sequence[RunRecord], pairs: dict[tuple[int, int], Verdict]) -> str:
    """What all pairs together allow: how many reach which setup, and how many can be tested at all."""
    counts = Counter(verdict.strictest or "not even S1" for verdict in pairs.values())
    reached = ", ".join(f"{name}: {counts[name]}" for name in (*STRICTNESS, "not even S1") if counts[name])
    untested = [record for record in records if not is_testable(sample(record))]
    silent = f"; {len(untested)} of {len(records)} records state no spread over runs (std and n), so none of them can "
    return (
        f"Pairs by strictest setup: {reached}" + (f"{silent}be told from another" if untested else "") + "."
    )


def matrix(records: Sequence[RunRecord], pairs: dict[tuple[int, int], Verdict]) -> str:
    """Text table: the strictest of S1 to S4.2 for each pair, with A, B, = for SX-A, SX-B, same schedule."""
    names = [f"[{i + 1}]" for i in range(len(records))]
    rows = [["", *names[1:]]]
    for i in range(len(records) - 1):
        row = ["" if j <= i else _cell(pairs[i, j]) for j in range(1, len(records))]
        rows.append([names[i], *row])
    key = [f"{number} {record.name}" for number, record in zip(names, records, strict=True)]
    legend = (
        "strictest setup; +A: SX-A, +B: SX-B, +=: same overall schedule; -: not even S1; !: settings that both state "
        "differ"
    )
    return "\n".join([*key, "", aligned(rows), legend])


def stuck_lines(records: Sequence[RunRecord]) -> list[str]:
    """A line for each record that has seeds which learnt nothing: they stand inside its mean."""
    found = [(record.name, stuck_text(record)) for record in records]
    return [f"at chance, and inside the mean: {seeds} of {name}" for name, seeds in found if seeds]


def _cell(verdict: Verdict) -> str:
    marks = {"SX-A": "+A", "SX-B": "+B", "same_overall_schedule": "+="}
    extra = "".join(mark for setup, mark in marks.items() if verdict.holds(setup))
    return (verdict.strictest or "-") + extra + "!" * bool(verdict.differing)


def _print_sentences(
    records: Sequence[RunRecord], pairs: dict[tuple[int, int], Verdict], args: argparse.Namespace
) -> None:
    print()
    if len(pairs) > args.pairs:
        print(conclusion(records, pairs))
        print(f"{len(pairs)} pairs: sentences left out; --pairs={len(pairs)} writes them")
        return
    for i, j in pairs:
        print(compare(records[i], records[j], rate_tolerance=args.tolerance).sentence)
