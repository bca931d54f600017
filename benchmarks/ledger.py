"""How long the ledger's page takes with thousands of records: to open, to sort, to filter, to pick two rows.

    python -m benchmarks.ledger [--records=5000] [--out=FILE.json]

Needs Chromium and playwright, and takes half a minute. Records are random ones, written to a temporary folder. The
page is opened anew in a browser that runs already, from the file system, until its first rows are there: the median of
several times. ``seconds`` are wall time. ``cpu_seconds`` are those of the process that builds the site, of the page's
process while it opens, and of the page's main thread afterwards. Other work on the machine does not touch them.
"""

import argparse
import dataclasses
import json
import random
import statistics
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

from benchmarks import provenance  # noqa: E402
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
OPENINGS = 5


def _of_sweep(record: RunRecord, number: int) -> RunRecord:
    """The record with base models of a sweep of its own."""
    stages = [
        dataclasses.replace(stage, ids=stage.ids and tuple(f"{number}-{each}" for each in stage.ids))
        for stage in record.stages or ()
    ]
    return dataclasses.replace(record, stages=tuple(stages) or None)


Times = tuple[float, float]


def measure(count: int) -> dict[str, Times]:
    """Wall and CPU seconds of each action, by its name."""
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
        with browser.opened(page) as (tab, said):
            opened = [_opening(tab) for _ in range(OPENINGS)]
            told = _actions(tab)
            assert not said, said
    wall, cpu = (statistics.median(each) for each in zip(*opened, strict=True))
    return {"build": built, "open": (wall, cpu), **told}


def _opening(tab: Any) -> Times:
    """Wall seconds until the first rows are there, and CPU seconds of the page's process until then."""
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable")
    before, start = _metric(session, "ProcessTime"), time.perf_counter()
    tab.reload()
    tab.wait_for_selector("#ledger tbody button")
    return time.perf_counter() - start, _metric(session, "ProcessTime") - before


def _metric(session: Any, name: str) -> float:
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == name)


def _actions(tab: Any) -> dict[str, Times]:
    """Wall and CPU seconds of what a person does: the first sort and the first filter fill the table's caches."""
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    told = {}
    for name, script in (("pick", PICK), ("sort", SORT), ("filter", FILTER)):
        before = _metric(session, "TaskDuration")
        wall = tab.evaluate(script) / 1000
        told[name] = wall, _metric(session, "TaskDuration") - before
    return told


def main() -> None:
    """Print the seconds, and write them where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--out", help="where the numbers go as JSON")
    args = parser.parse_args()
    about = provenance.about("benchmarks.ledger", ("playwright", "itables"))
    measured = measure(args.records)
    result = {
        **about,
        "records": args.records,
        "seconds": {name: round(wall, 4) for name, (wall, _) in measured.items()},
        "cpu_seconds": {name: round(cpu, 4) for name, (_, cpu) in measured.items()},
    }
    print(json.dumps(result, indent=1))
    if args.out:
        Path(args.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
