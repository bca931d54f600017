"""How long the ledger's page takes with thousands of records: to load, to sort, to filter, to pick two rows.

    python benchmarks/ledger.py [--records=5000] [--out=FILE.json]

Needs Chromium and playwright. Records are random ones, written to a temporary folder. ``seconds`` are wall time;
``cpu_seconds`` are those of the process that builds the site, and of the page's main thread, which other work on the
machine does not touch.
"""

import argparse
import dataclasses
import json
import platform
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:1] = [
    str(ROOT),
    str(ROOT / "tests" / "report"),
]  # without this folder, whose select.py hides Python's

import browser  # noqa: E402
import random_records  # noqa: E402

from prune_jax.fairness import RunRecord, to_json  # noqa: E402
from prune_jax.report.ledger import site  # noqa: E402
from prune_jax.report.ledger.gather import Entry, Gathered  # noqa: E402

SORT = "() => { const t = performance.now(); Ledger.grid.order([9, 'desc']).draw(); return performance.now() - t; }"
FILTER = (
    "() => { const t = performance.now(); Ledger.grid.search('vgg19').draw(); return performance.now() - t; }"
)
PICK = (
    "() => { const t = performance.now(); Ledger.pick(1); Ledger.pick(4000); return performance.now() - t; }"
)


SWEEP = 20  # records that share base models, as a sweep's runs do


def _of_sweep(record: RunRecord, number: int) -> RunRecord:
    """The record with base models of a sweep of its own."""
    stages = [
        dataclasses.replace(stage, ids=stage.ids and tuple(f"{number}-{each}" for each in stage.ids))
        for stage in record.stages or ()
    ]
    return dataclasses.replace(record, stages=tuple(stages) or None)


Times = tuple[float, float | None]


def measure(count: int) -> dict[str, Times]:
    """Wall and CPU seconds of each action, by its name; None where its CPU is that of several processes."""
    made = [
        _of_sweep(record, i // SWEEP)
        for i, record in enumerate(random_records.records(random.Random(0), count))
    ]
    entries = [
        Entry(f"{number:012d}", record, "random", to_json(record)) for number, record in enumerate(made)
    ]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter(), time.process_time()
        page = site.write(Path(folder) / "site", Gathered(tuple(entries), ()))
        built = time.perf_counter() - start[0], time.process_time() - start[1]
        start = time.perf_counter(), 0.0
        with browser.opened(page) as (tab, said):
            tab.wait_for_selector("#ledger tbody button")
            loaded = time.perf_counter() - start[0]
            told = _actions(tab)
            assert not said, said
    return {"build": built, "browser and load": (loaded, None), **told}


def _actions(tab: Any) -> dict[str, Times]:
    """Wall and CPU seconds of what a person does: the first sort and the first filter fill the table's caches."""
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

    told = {}
    for name, script in (("pick", PICK), ("sort", SORT), ("filter", FILTER)):
        before = spent()
        wall = tab.evaluate(script) / 1000
        told[name] = wall, spent() - before
    return told


def main() -> None:
    """Print the seconds, and write them where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--out", help="where the numbers go as JSON")
    args = parser.parse_args()
    measured = measure(args.records)
    result = {
        "records": args.records,
        "seconds": {name: round(wall, 4) for name, (wall, _) in measured.items()},
        "cpu_seconds": {name: round(cpu, 4) for name, (_, cpu) in measured.items() if cpu is not None},
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    print(json.dumps(result, indent=1))
    if args.out:
        Path(args.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
