"""Our runs beside a table of the paper, cell by cell."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from prune_jax import text_table
from prune_jax.fairness import RunRecord, Sample
from prune_jax.report import paper_tables, reading
from prune_jax.report.paper_tables import PaperCell, PaperTable


class Beside(NamedTuple):
    """A table of the paper, and our values for those of its cells that we ran.

    Attributes:
        table: the paper's.
        ours: our values, by row and column.
        title: the paper's title, and how our runs differ.
        notes: lines that stand beneath the table.
    """

    table: PaperTable
    ours: Mapping[tuple[str, str], Sample]
    title: str
    notes: tuple[str, ...]


def beside(number: int, records: Sequence[RunRecord]) -> Beside:
    """Match records to the cells of a table by ``config.tables``, ``config.row`` and the pruning ratio.

    Where several runs fit a cell, the one with the most seeds is shown, and a note says so.

    Raises:
        KeyError: a table that holds no runs.
        ValueError: no record belongs to the table.
    """
    table = paper_tables.paper_table(number)
    mine = [record for record in records if number in record.config.get("tables", ())]
    if not mine:
        raise ValueError(
            f"none of {len(records)} records belongs to Table {number}; "
            f"python run.py --config=configs/table{number if number != 8 else 5}.py makes them"
        )
    ours: dict[tuple[str, str], Sample] = {}
    notes = list(table.notes)
    for place, cell in table.cells.items():
        fitting = sorted((r for r in mine if _fits(cell, r)), key=lambda r: -len(r.results))
        if not fitting:
            continue
        ours[place] = QUANTITIES[cell.quantity](fitting[0])
        if len(fitting) > 1 and cell.quantity == paper_tables.ACCURACY:
            notes.append(f"{place[0]}, {place[1]}: {len(fitting)} runs fit; one with most seeds is shown.")
    return Beside(table, ours, _title(table, mine), tuple(notes))


def markdown(number: int, records: Sequence[RunRecord]) -> str:
    """The table as Markdown, padded to be read as text: three lines a row, paper, ours, difference."""
    made = beside(number, records)
    head = ["row", "setup", "", *made.table.columns]
    lines = [line for label, setup in made.table.rows for line in _lines(made, label, setup)]
    notes = [NOTE, *made.notes]
    return "\n\n".join([f"**{made.title}**", text_table.markdown(head, lines, pad=True), "\n".join(notes)])


def fullest(records: Sequence[RunRecord]) -> str:
    """``markdown`` of the table in which these records fill the most cells, or '' when they belong to none."""
    numbers = sorted({number for record in records for number in record.config.get("tables", ())})
    if not numbers:
        return ""
    return markdown(max(numbers, key=lambda number: (len(beside(number, records).ours), -number)), records)


def texts(made: Beside, place: tuple[str, str]) -> tuple[str, str, str]:
    """A cell's three texts: the paper's, ours, and ours minus the paper's. A missing one is empty."""
    cell, ours = made.table.cells.get(place), made.ours.get(place)
    if cell is None:
        return "", "", ""
    if ours is None:
        return text(cell.printed), "", ""
    return text(cell.printed), text(ours), f"{ours.mean - cell.printed.mean:+.2f}"


def text(sample: Sample) -> str:
    """``mean ± std (n)`` as far as stated."""
    std = "" if sample.std is None else f" ± {sample.std:.2f}"
    return f"{sample.mean:.2f}{std}" + ("" if sample.n is None else f" ({sample.n})")


NOTE = (
    "Cells: mean ± sample std (number of runs; the paper's is at least 3), accuracy at the last epoch in "
    "percent. Empty: not run, or not printed."
)


def _speedup(record: RunRecord) -> Sample:
    """Dense over (mean) pruned MACs. Where the seeds' networks differ, the sample has their spread."""
    each, mean = reading.speedups(record), record.costs.speedup or 1.0
    return dataclasses.replace(Sample.of(each), mean=mean) if each else Sample(mean)


QUANTITIES: Mapping[str, Callable[[RunRecord], Sample]] = MappingProxyType(
    {
        paper_tables.ACCURACY: lambda record: Sample.of(record.accuracies),
        paper_tables.TRAINABILITY: lambda record: Sample.of(reading.trainability_accuracies(record)),
        paper_tables.SPEEDUP: _speedup,
        paper_tables.SPARSITY: lambda record: Sample(100.0 * (1.0 - 1.0 / (record.costs.compression or 1.0))),
    }
)


def _fits(cell: PaperCell, record: RunRecord) -> bool:
    ratio = _ratio(record.config)
    same_ratio = cell.ratio is None or (ratio is not None and abs(ratio - cell.ratio) < 1e-9)
    return bool(record.results) and same_ratio and cell.row in (None, record.config.get("row"))


def _ratio(config: Mapping[str, Any]) -> float | None:
    return config.get("sparsify", {}).get("ratio")


def _title(table: PaperTable, records: Sequence[RunRecord]) -> str:
    """The paper's title, then which data, network and epochs of ours are not the paper's."""
    found = {
        "data": ({str(r.dataset).split("/")[0] for r in records}, table.dataset),
        "network": ({str(r.network) for r in records}, table.network),
    }
    other = [
        f"{what} {', '.join(sorted(ours))} instead of {theirs}"
        for what, (ours, theirs) in found.items()
        if ours - {theirs}
    ]
    by = sorted({float(r.config.get("shorten", 1)) for r in records})
    other += [f"epochs / {', '.join(f'{value:g}' for value in by)}"] * (by != [1.0])
    seeds = min(len(r.results) for r in records)
    other += [f"{seeds} seed{'s' * (seeds != 1)}"] * (0 < seeds < paper_tables.RUNS)
    if not other:
        return table.title
    lead = "ours on other data" if found["data"][0] - {table.dataset} else "ours differs"
    return f"{table.title} [{lead}: {'; '.join(other)}]"


def _lines(made: Beside, label: str, setup: str) -> list[list[str]]:
    each = [texts(made, (label, column)) for column in made.table.columns]
    return [
        [label, setup, "paper", *(cell[0] for cell in each)],
        ["", "", "ours", *(cell[1] for cell in each)],
        ["", "", "ours − paper", *(cell[2] for cell in each)],
    ]
