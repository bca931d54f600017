"""A run's curves while they grow: JSON lines for programs, event files for TensorBoard."""

import json
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prune_jax.experiment.storage import tensorboard as storage_tensorboard


def _id_in(line: str, file: Path) -> str:
    try:
        return json.loads(line)["id"]
    except (ValueError, TypeError, KeyError):
        raise ValueError(
            f"{file} holds a line that is no metric, {line.strip()[:60]!r}: remove the line"
        ) from None


class Metrics:
    """``metrics/NAME.jsonl``: one line per stage, seed and epoch of a run, appended as they come, never twice.

    What a launch before has written stays: a killed one goes on after the last whole line. Event files lie under
    ``tensorboard/LABEL-NAME/seedN``, a new one per launch that has something to add. One process at a time.
    """

    def __init__(self, root: Path, name: str, label: str, tensorboard: bool = True) -> None:
        self._label, self._lines = label, root / "metrics" / f"{name}.jsonl"
        folder = re.sub(r"[^\w.+=-]+", "_", label).strip("_") or "run"
        self._events = root / "tensorboard" / f"{folder}-{name[:6]}" if tensorboard else None
        self._files: dict[Path, Path] = {}
        self._written = Counter(_id_in(line, self._lines) for line in _whole_lines(self._lines))

    def write(self, kind: str, stage_id: str, seed: int | None, history: Sequence[Mapping[str, Any]]) -> None:
        """Add what of a stage's ``history``, its entries from epoch 0 on, is not there yet."""
        new = history[self._written[stage_id] :]
        if not new:
            return
        if self._events is not None:  # before the lines, which say what is written
            self._add_events(self._events / ("run" if seed is None else f"seed{seed}"), kind, new)
        about = {"run": self._label, "stage": kind, "seed": seed, "id": stage_id}
        text = "".join(json.dumps({**about, **entry}) + "\n" for entry in new)
        self._lines.parent.mkdir(parents=True, exist_ok=True)
        with self._lines.open("a") as file:
            file.write(text)
        self._written[stage_id] += len(new)

    def _add_events(self, folder: Path, kind: str, new: Sequence[Mapping[str, Any]]) -> None:
        now, first = time.time(), folder not in self._files
        if first:
            folder.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{time.time_ns():020}.{socket.gethostname()}.{os.getpid()}"
            self._files[folder] = folder / name
        with self._files[folder].open("ab") as file:
            if first:
                file.write(storage_tensorboard.opening(now))
            for entry in new:
                values = {
                    f"{kind}/{name}": value
                    for name, value in entry.items()
                    if name != "epoch" and isinstance(value, int | float)
                }
                file.write(storage_tensorboard.scalars(entry["epoch"], values, now))


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file, without a last one that a kill cut short: that one is cut off the file as well."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return whole.decode().splitlines()
