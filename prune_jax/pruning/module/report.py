"""What a call of ``prune`` did, as a table for a terminal."""

import io
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from prune_jax.pruning.latency import Latency, latency
from prune_jax.pruning.module.remake import near

COLUMNS = ("group", "channels", "kept", "leaves", "note")
WIDTH = 110


@dataclass(frozen=True)
class PruneReport:
    """Rows and totals. ``print`` shows them as a table, and so does rich.

    Attributes:
      rows: group, channels before, channels after, number of leaf axes, and a note: why it is frozen, or what a mask
        can't do.
      totals: (name, before, after) of MACs, parameters and activations for the inputs as given, and measured seconds
        where they were asked for.
      notes: lines below the table.
    """

    rows: tuple[tuple[str, int, int, int, str], ...]
    totals: tuple[tuple[str, float, float], ...]
    notes: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(*COLUMNS)
        for name, before, after, leaves, note in self.rows:
            table.add_row(name, str(before), str(after), str(leaves), note)
        yield table
        totals = Table("total", "before", "after", "before / after")
        for name, was, now in self.totals:
            totals.add_row(name, f"{was:,.6g}", f"{now:,.6g}", f"{was / now:.2f}x" if now else "")
        yield totals
        yield from self.notes

    def __str__(self) -> str:
        # In a notebook rich would show the table by itself and leave the text empty.
        console = Console(file=io.StringIO(), width=WIDTH, force_jupyter=False)
        console.print(self)
        return console.file.getvalue()  # type: ignore[attr-defined]


def report_of(pruned: Any, measured: bool) -> PruneReport:
    """The report of a ``Pruned``. With ``measured`` both networks run on random numbers of their shapes."""
    rows = tuple((g.name, g.size, pruned.sizes[g.name][1], len(g.members), _note(g)) for g in pruned.groups)
    before, after = pruned.before, pruned.after
    totals: list[tuple[str, float, float]] = [
        (n, getattr(before, n), getattr(after, n)) for n in ("macs", "params", "activations")
    ]
    if measured:
        was = _measured(pruned.dense.apply, pruned.dense.variables, pruned.dense.inputs)
        now = _measured(pruned.apply, pruned.variables, pruned.dense.inputs)
        totals.append(("seconds, median", was.median, now.median))
    notes = [f"model is a wrapper: {pruned.wrapped}"] if pruned.wrapped else []
    if pruned.mask is not None:
        notes.append("masked: the arrays keep their sizes; costs after are those of the cut network")
    return PruneReport(rows, tuple(totals), tuple(notes))


def _measured(apply: Any, variables: Any, inputs: Any) -> Latency:
    return latency(apply, near(variables, 0), *near(inputs, 1))


def _note(group: Any) -> str:
    if group.frozen is not None:
        return f"frozen: {group.frozen}"
    return "" if group.maskable else f"surgery only: {group.unmaskable}"
