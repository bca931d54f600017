"""The label of every record of a prepared split, read once through all of it and then kept in a file."""

import contextlib
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from prune_jax import atomic
from prune_jax.data.turns import turn

CHUNK = 1024  # records read at once
SILENT = 100_000  # examples. More take minutes or hours, which a line explains


def records_of(builder: tfds.core.DatasetBuilder, split: str, classes: Sequence[int]) -> np.ndarray:
    """The record numbers int64, ascending, of the examples of ``classes`` in a prepared split."""
    return np.flatnonzero(np.isin(list_labels(builder, split), np.asarray(classes)))


def list_labels(builder: tfds.core.DatasetBuilder, split: str) -> np.ndarray:
    """Every record's label int32, from the first of ``label_files`` that holds them, else read and kept there.

    One process reads while the others wait for its file. Where none can be written, each reads at every call.
    """
    files, examples = label_files(builder, split), builder.info.splits[split].num_examples
    for file in files:
        if (labels := _load(file, examples)) is not None:
            return labels
    for file in files:
        with contextlib.ExitStack() as held:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(turn(file.with_suffix(".reading")))
            except OSError:
                continue  # a data set that others own and share, or no place of one's own either
            if (labels := _load(file, examples)) is not None:  # another process has read them meanwhile
                return labels
            labels = _read(builder, split, f"kept in {file}")
            with contextlib.suppress(OSError), atomic.writing(file) as out:  # a full disk
                np.save(out, labels)
            return labels
    return _read(
        builder, split, f"again at every start, for neither {' nor '.join(map(str, files))} can be written"
    )


def label_files(
    builder: tfds.core.DatasetBuilder, split: str, environment: Mapping[str, str] = os.environ
) -> tuple[Path, Path]:
    """Where labels are kept: beside the records, or in the user's own cache folder where that is read-only.

    A name in the cache is of one folder's records as they are now: another one's never pass for them.
    """
    folder = Path(builder.data_dir)
    about = folder / "dataset_info.json"
    is_what = [str(folder.resolve()), str(about.stat().st_mtime_ns), about.read_text()]
    for shard in sorted(folder.glob(f"*-{split}.*")):
        is_what.append(f"{shard.name} {shard.stat().st_size} {shard.stat().st_mtime_ns}")
    digest = hashlib.sha256("\n".join(is_what).encode()).hexdigest()[:16]
    cache = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prune_jax"
    return folder / f"labels-{split}.npy", cache / f"labels-{builder.name}-{split}-{digest}.npy"


def _load(file: Path, examples: int) -> np.ndarray | None:
    """The labels in a file. None where it is not there, is damaged, or holds another number of them."""
    try:
        labels = np.load(file)
    except (OSError, ValueError, EOFError):
        return None
    return labels if labels.shape == (examples,) else None


def _read(builder: tfds.core.DatasetBuilder, split: str, kept: str) -> np.ndarray:
    source = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    examples = len(source)
    if examples > SILENT:
        # Not through logging, which run.py silences.
        print(
            f"reading all {examples} records of {builder.name}/{split} for their labels; this takes a while "
            f"({kept})",
            file=sys.stderr,
            flush=True,
        )
    labels = np.empty(examples, np.int32)
    for start in range(0, examples, CHUNK):
        chunk = range(start, min(start + CHUNK, examples))
        labels[start : chunk.stop] = [example["label"] for example in source.__getitems__(list(chunk))]
    return labels
