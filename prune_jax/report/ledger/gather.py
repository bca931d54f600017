"""Records from anywhere for one ledger: what can't be read is named and left out, and so is what is there twice."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from prune_jax.fairness import RunRecord, published, read, to_json
from prune_jax.fairness.cli import PREFIXES


class Entry(NamedTuple):
    """A record of the ledger: ``id``, the beginning of its content's hash, where it came from, and its JSON."""

    id: str
    record: RunRecord
    place: str
    text: str


class Gathered(NamedTuple):
    """What was read.

    Attributes:
        entries: the records, in the order in which they came.
        problems: a line for each record that was left out.
    """

    entries: tuple[Entry, ...]
    problems: tuple[str, ...]


def gather(runs: Sequence[str]) -> Gathered:
    """Read all records of files, folders and published tables. One that can't be read hides no other.

    Args:
        runs: record files, result folders, folders of result folders, ``paper:table4``, ``published:pruningbench``.

    Returns:
        The records, each once, and why others were left out.

    Raises:
        FileNotFoundError: a path that is not there, or a folder without a record file.
        KeyError: an unknown published table.
        ValueError: not a single record can be read.
    """
    found: list[tuple[str, RunRecord]] = []
    problems: list[str] = []
    for run in runs:
        if run.startswith(PREFIXES):
            found += [(run, record) for record in published.records(run.partition(":")[2])]
            continue
        for file in files(Path(run)):
            try:
                found.append((str(file), read(file)))
            except (OSError, ValueError) as error:
                problems.append(f"left out: {error}")
    entries, twice = _once(found)
    if not entries:
        why = "".join(f"\n{problem}" for problem in problems)
        raise ValueError(
            f"no record in {', '.join(runs) or 'nothing'}: name files or folders with records{why}"
        )
    return Gathered(tuple(entries), (*problems, *twice))


def folder(place: str) -> str:
    """Where a record came from without its file's name: the result folder, or the published table.

    >>> folder("runs/mine/records/1.json"), folder("published:pruningbench")
    ('runs/mine', 'published:pruningbench')
    """
    path = Path(place)
    if path.suffix != ".json":
        return place
    home = path.parent.parent if path.parent.name == "records" else path.parent
    return str(home)


def files(path: Path) -> list[Path]:
    """The record files of a path: itself, those of a result folder, or those of all result folders in it.

    Beside result folders lie files of other kinds, such as a benchmark's numbers. There a file counts where it states
    a schema, or where it can't be read, so that it is named.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        raise FileNotFoundError(f"no record or folder at {path}")
    own, beside, below = (sorted(path.glob(it)) for it in ("records/*.json", "*.json", "**/records/*.json"))
    if not own and below:
        return [*filter(_states_schema, beside), *below]
    found = own or beside or sorted(path.glob("*/*.json"))
    if not found:
        raise FileNotFoundError(
            f"{path} holds no records: none in {path / 'records'}, in itself, or in folders below it (*.json)"
        )
    return found


def _states_schema(file: Path) -> bool:
    """Whether a file means to be a record, as far as can be told."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return isinstance(told, dict) and "schema" in told


def _once(found: Sequence[tuple[str, RunRecord]]) -> tuple[list[Entry], list[str]]:
    entries: dict[str, Entry] = {}
    twice = []
    for place, record in found:
        text = to_json(record)
        made = Entry(hashlib.sha256(text.encode()).hexdigest()[:12], record, place, text)
        first = entries.setdefault(made.id, made)
        if first is not made:
            twice.append(f"listed once: {record.name!r} of {place} is the same record as in {first.place}")
    return list(entries.values()), twice
