"""The records of a workdir and the report over them, which several processes bring up to date."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prune_jax import fairness
from prune_jax.experiment.storage import leases
from prune_jax.experiment.storage.stages import Store

# (workdir, records present, the config's report layout, runs in all, whether to draw figures) -> report path
WriteReport = Callable[[Path, list[fairness.RunRecord], dict[str, Any], int, bool], Path]
PAUSE = 0.2  # seconds until a report that another process is writing is asked for again


class Board:
    """Where a sweep stands: its runs' records by name, in the sweep's order, whichever process made them."""

    def __init__(
        self, store: Store, names: Sequence[str], layout: dict[str, Any], write_report: WriteReport
    ) -> None:
        self._store, self._names = store, list(names)
        self._layout, self._write = layout, write_report
        self._read: dict[str, tuple[int, fairness.RunRecord]] = {}

    def path(self, name: str) -> Path:
        """Where the record of a run is, or will be."""
        return self._store.root / "records" / f"{name}.json"

    def record(self, name: str) -> fairness.RunRecord:
        """The record of a run, read again only when it has changed. FileNotFoundError while there is none."""
        changed = self.path(name).stat().st_mtime_ns
        before = self._read.get(name)
        if before is None or before[0] != changed:
            self._read[name] = before = (changed, fairness.read(self.path(name)))
        return before[1]

    def records(self) -> tuple[fairness.RunRecord, ...]:
        """All records that are present, in the sweep's order."""
        return tuple(self.record(name) for name in self._names if self.path(name).exists())

    def report(self, draw: bool) -> Path:
        """Write the report over all records present. Returns its path.

        One process at a time reads the records and writes, so whoever comes last has seen them all. With
        ``draw`` False, for a report on the way, one that another process is writing does as well.
        """
        while True:
            try:
                with leases.held(self._store.locks, ["report"], together=False):
                    return self._write(
                        self._store.root, list(self.records()), self._layout, len(self._names), draw
                    )
            except leases.BusyError:
                if not draw:
                    return self._store.root / "report.md"
                time.sleep(PAUSE)
