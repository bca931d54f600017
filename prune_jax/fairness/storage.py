"""Records on disk: versioned JSON, written whole or not at all, older versions lifted when read."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from prune_jax import atomic
from prune_jax.fairness.decode import decode
from prune_jax.fairness.migrations import (
    lift_accuracies,
    lift_flat,
    lift_one_round,
    lift_unmeasured,
    lift_untimed,
)
from prune_jax.fairness.record import RunRecord

SCHEMA = 5
Migration = Callable[[dict[str, Any]], dict[str, Any]]
# Version n -> function that lifts its data to n + 1. A new version adds one line here.
MIGRATIONS: Mapping[int, Migration] = MappingProxyType(
    {0: lift_flat, 1: lift_unmeasured, 2: lift_one_round, 3: lift_untimed, 4: lift_accuracies}
)


def to_json(record: RunRecord) -> str:
    """The record as JSON text. ValueError when it holds a NaN, an infinity or something JSON can't hold."""
    try:
        return json.dumps({"schema": SCHEMA, **asdict(record)}, indent=1, allow_nan=False, default=_scalar)
    except (TypeError, ValueError) as error:
        raise ValueError(f"record {record.name!r} can't be written as JSON: {error}") from None


def from_json(text: str, place: str = "record") -> RunRecord:
    """Read a record of this or an older schema. ValueError naming ``place``, the key and what is allowed."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{place} is no JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{place} must be a JSON object, got {type(data).__name__}")
    return decode(RunRecord, lift(data, place), place)


def lift(
    data: dict[str, Any], place: str, schema: int = SCHEMA, migrations: Mapping[int, Migration] = MIGRATIONS
) -> dict[str, Any]:
    """Bring data to version ``schema``, one migration after the other, and drop the version key."""
    data = dict(data)
    version = data.pop("schema", None)
    if not isinstance(version, int) or isinstance(version, bool):
        raise ValueError(f"{place} states no schema version ('schema': {schema}), got {version!r}")
    if not 0 <= version <= schema:
        raise ValueError(f"{place} has schema {version}; this release reads 0 to {schema}")
    for step in range(version, schema):
        try:
            data = migrations[step](data)
        except ValueError as error:
            raise ValueError(f"{place} (schema {version}): {error}") from None
    return data


def write(record: RunRecord, path: str | Path) -> Path:
    """Write atomically: a reader, or a disk that fills up, sees the old file or the new one, never a part."""
    path, text = Path(path), to_json(record)
    atomic.write_text(path, text)
    return path


def read(path: str | Path) -> RunRecord:
    """Read one record. FileNotFoundError or ValueError naming the file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no record at {path}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}") from None
    return from_json(text, str(path))


def read_folder(path: str | Path) -> tuple[RunRecord, ...]:
    """Read all records of a result folder: its ``records/*.json``, or its own ``*.json``, by file name."""
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"no result folder at {path}")
    folder = path / "records" if (path / "records").is_dir() else path
    files = sorted(folder.glob("*.json"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no records (*.json)")
    return tuple(read(file) for file in files)


def _scalar(value: Any) -> Any:
    """A NumPy or JAX scalar as a Python number."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} of type {type(value).__name__}")
