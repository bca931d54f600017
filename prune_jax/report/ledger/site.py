"""The ledger's files: a page, its table's data, and each record. They work from the file system, without a server."""

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from prune_jax import atomic
from prune_jax.fairness import chain, images, training_settings
from prune_jax.fairness.comparison import TOO_WEAK, sample
from prune_jax.fairness.facts import RULES, facts
from prune_jax.fairness.metrics import ACCURACY
from prune_jax.fairness.setups import SETUPS, STRICTNESS
from prune_jax.report.ledger.gather import Entry, Gathered, folder
from prune_jax.report.ledger.ranks import Standing, standings

OURS = ("index.html", "ledger.css", "ledger.js", "verdict.js")
DATA = "data.js"
BEGINS = "const LEDGER = "  # what tells a ledger's folder from others
TABLE_LIBRARY = MappingProxyType({"datatables.js": "dt_bundle.js", "datatables.css": "dt_bundle.css"})
Cell = str | float | None
Pool = dict[str, tuple[int, Any]]  # the distinct facts of a field, by their text: number and fact


def write(
    home: Path, gathered: Gathered, tolerance: float = 0.02, title: str = "Ledger of pruning results"
) -> Path:
    """Write the site.

    Args:
        home: a new folder, an empty one, or one that holds an older ledger, whose files are replaced.
        gathered: the records, and the lines about those that were left out, which the page shows too.
        tolerance: relative difference at which rates count as the same.
        title: of the page.

    Returns:
        The page, ``index.html``.

    Raises:
        FileExistsError: the folder holds something else.
        ModuleNotFoundError: the table library is not installed.
    """
    _refuse_other_content(home)
    library = _library()
    data = page_data(gathered, tolerance, title)
    for name, text in {**library, **{name: _own(name) for name in OURS}}.items():
        atomic.write_text(home / name, text)
    _write_records(home / "records", gathered.entries)
    atomic.write_text(home / DATA, f"{BEGINS}{json.dumps(data, separators=(',', ':'), allow_nan=False)};\n")
    return home / "index.html"


def page_data(gathered: Gathered, tolerance: float, title: str) -> dict[str, Any]:
    """What the page's scripts read: the table of setups, rows, and facts, of which each distinct one is there once."""
    records = [entry.record for entry in gathered.entries]
    stand = standings(records, tolerance)
    pools: dict[str, Pool] = {}
    pooled = [[_pooled(pools, name, fact) for name, fact in facts(record).items()] for record in records]
    return {
        "title": title,
        "table": setup_table(tolerance),
        "columns": list(COLUMNS),
        "rows": [[e.id, *row(e, stand.get(i))] for i, e in enumerate(gathered.entries)],
        "pools": {name: [fact for _, fact in pool.values()] for name, pool in pools.items()},
        "facts": pooled,
        "problems": list(gathered.problems),
    }


def setup_table(tolerance: float) -> dict[str, Any]:
    """All that a verdict takes beside two records' facts, from the tables of ``prune_jax.fairness``."""
    return {
        "setups": {setup: list(fields) for setup, fields in SETUPS.items()},
        "strictness": list(STRICTNESS),
        "winning": [setup for setup in SETUPS if setup not in TOO_WEAK],
        "rules": {field: rule for field, (rule, _) in RULES.items()},
        "forms": list(images.FORMS),
        "asked": list(training_settings.ASKED),
        "accuracy": [ACCURACY.name, ACCURACY.unit, ACCURACY.direction],
        "tolerance": tolerance,
        "significance": 0.05,
    }


# Heading of a column -> its cell. Numbers are sorted as numbers.
COLUMNS: Mapping[str, Any] = MappingProxyType(
    {
        "name": lambda record: record.name,
        "data": lambda record: record.dataset,
        "network": lambda record: record.network,
        "method": lambda record: record.method,
        "ratio": lambda record: _number(record.axes.ratio),
        "speedup": lambda record: _rounded(record.costs.speedup),
        "compression": lambda record: _rounded(record.costs.compression),
        "epochs": lambda record: chain.epochs(record, ("retrain",)) if record.stages else None,
        "result": lambda record: (stated := sample(record)) and stated.mean,
        "std": lambda record: (stated := sample(record)) and stated.std,
        "n": lambda record: (stated := sample(record)) and stated.n,
        "metric": lambda record: (
            record.measured.name + (f" ({record.measured.unit})" if record.measured.unit else "")
        ),
    }
)
AFTER = ("ranking", "place", "letters", "source")


def row(entry: Entry, standing: Standing | None) -> list[Cell]:
    """The cells of a record: ``COLUMNS``, then its ranking, its place there, its letters, and where it is from."""
    cells = [read(entry.record) for read in COLUMNS.values()]
    ranked: list[Cell] = [None, None, None]
    if standing is not None:
        ranked = [f"{standing.group}: {standing.setup}", standing.place, standing.letters]
    return [*cells, *ranked, entry.record.source or folder(entry.place)]


def _number(text: str | None) -> Cell:
    """A ratio as a number where it is one. Others, such as '[0, 0.6]', stay text."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _pooled(pools: dict[str, Pool], name: str, fact: Any) -> int:
    """The number of a fact among the distinct ones of its field."""
    pool = pools.setdefault(name, {})
    return pool.setdefault(repr(fact), (len(pool), fact))[0]


def _write_records(home: Path, entries: Sequence[Entry]) -> None:
    home.mkdir(parents=True, exist_ok=True)
    names = {f"{entry.id}.json" for entry in entries}
    for old in home.glob("*.json"):
        if old.name not in names:
            old.unlink()
    for entry in entries:
        (home / f"{entry.id}.json").write_text(entry.text, encoding="utf-8")


def _refuse_other_content(home: Path) -> None:
    if not home.exists() or not any(home.iterdir()):
        return
    data = home / DATA
    if not data.is_file() or not data.read_text(encoding="utf-8")[: len(BEGINS)] == BEGINS:
        raise FileExistsError(f"{home} holds something else than a ledger; choose a new folder for --out")


def _own(name: str) -> str:
    return files("prune_jax.report.ledger").joinpath(name).read_text(encoding="utf-8")


def _library() -> dict[str, str]:
    """DataTables (MIT), from the package itables, as a plain script: browsers load no module from a file."""
    spec = find_spec("itables")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "the ledger's table needs itables; pip install 'prune_jax[report]'", name="itables"
        )
    html = Path(spec.origin).parent / "html"
    texts = {ours: (html / theirs).read_text(encoding="utf-8") for ours, theirs in TABLE_LIBRARY.items()}
    return {**texts, "datatables.js": as_script(texts["datatables.js"])}


def as_script(module: str) -> str:
    """Turn a JavaScript module into a plain script, which browsers load from a file too.

    The script sets ``window.DataTable`` to what the module exports as its default.

    Raises:
        ValueError: the module has no default export.

    >>> as_script("var a=1;export{b as other,a as default};/* licence */")
    '(() => {"use strict";var a=1;window.DataTable = a;/* licence */\\n})();\\n'
    """
    found = re.search(r"export\{[^}]*?([\w$]+) as default[^}]*\};?", module)
    if found is None:
        raise ValueError("itables' dt_bundle.js has no default export; install itables>=2.5,<3")
    script = f"{module[: found.start()]}window.DataTable = {found[1]};{module[found.end() :]}"
    return f'(() => {{"use strict";{script}\n}})();\n'
