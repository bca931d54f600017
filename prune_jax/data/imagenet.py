"""ImageNet and the part of it called ImageNet100: its manual downloads, and which classes are used."""

import contextlib
import difflib
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds


class Entry(NamedTuple):
    """A name: the TFDS set behind it, and how many of its classes are used."""

    builder: str
    classes: int


ARCHIVES = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")
ALL_CLASSES = 1000
# ImageNet100 is 100 of ImageNet's classes; which ones the paper doesn't say.
ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        "imagenet2012": Entry("imagenet2012", ALL_CLASSES),
        "imagenet100": Entry("imagenet2012", 100),
    }
)
CHUNK = 1024  # records read at once while labels are listed
SILENT = 100_000  # examples; more take minutes, which a line explains


def choose_classes(name: str, seed: int, file: str, label_names: Sequence[str]) -> tuple[int, ...]:
    """The ids, ascending, of the classes that ``name`` uses of ImageNet's; empty where it uses all.

    From ``file`` where one is given, else drawn with ``seed``. Raises ValueError for a file that doesn't list
    that many known ids, each once.
    """
    wanted = ENTRIES[name].classes
    if file:
        return read_classes(Path(file), wanted, label_names)
    return () if wanted == len(label_names) else draw_classes(len(label_names), wanted, seed)


def draw_classes(classes: int, wanted: int, seed: int) -> tuple[int, ...]:
    """``wanted`` of ``classes`` ids, ascending: those with the smallest of uniform numbers drawn with ``seed``."""
    return tuple(np.sort(np.argsort(np.random.default_rng(seed).random(classes))[:wanted]).tolist())


def read_classes(file: Path, wanted: int, label_names: Sequence[str]) -> tuple[int, ...]:
    """The ids in a file of one class a line, as a number or a WordNet id such as n01440764; '#' comments.

    Raises ValueError naming the line of an unknown or repeated class, and for a number of them that isn't
    ``wanted``.
    """
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"dataset.classes_file: {file} can't be read ({error})") from error
    known = {label: i for i, label in enumerate(label_names)} | {str(i): i for i in range(len(label_names))}
    found: dict[int, int] = {}
    for number, line in enumerate(lines, 1):
        text = line.split("#")[0].strip()
        if not text:
            continue
        where = f"dataset.classes_file: {file} line {number}: class {text!r}"
        if text not in known:
            near = difflib.get_close_matches(text, label_names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"{where} is unknown; allowed: 0 to {len(label_names) - 1} or a WordNet id such as "
                f"{label_names[0]}{hint}"
            )
        if known[text] in found:
            raise ValueError(f"{where} was on line {found[known[text]]} already; each class is listed once")
        found[known[text]] = number
    if len(found) != wanted:
        raise ValueError(f"dataset.classes_file: {file} lists {len(found)} classes; {wanted} are needed")
    return tuple(sorted(found))


def records_of(builder: tfds.core.DatasetBuilder, split: str, classes: Sequence[int]) -> np.ndarray:
    """The record numbers int64, ascending, of the examples of ``classes`` in a prepared split."""
    return np.flatnonzero(np.isin(list_labels(builder, split), np.asarray(classes)))


def list_labels(builder: tfds.core.DatasetBuilder, split: str) -> np.ndarray:
    """Every record's label int32, read once through the whole split and then kept in a file beside it."""
    file = Path(builder.data_dir) / f"labels-{split}.npy"
    examples = builder.info.splits[split].num_examples
    try:
        labels = np.load(file)
        if labels.shape == (examples,):
            return labels
    except (OSError, ValueError, EOFError):
        pass  # not there yet, or damaged: read anew
    if examples > SILENT:
        logging.getLogger(__name__).warning(
            "reading the label of all %d examples once, for %s", examples, file
        )
    source = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    labels = np.empty(examples, np.int32)
    for start in range(0, examples, CHUNK):
        chunk = range(start, min(start + CHUNK, examples))
        labels[start : chunk.stop] = [example["label"] for example in source.__getitems__(list(chunk))]
    _keep(file, labels)
    return labels


def _keep(file: Path, labels: np.ndarray) -> None:
    with contextlib.suppress(OSError):  # a data set that others own and share: read again next time
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as out:
            np.save(out, labels)
        Path(out.name).chmod(0o644)
        Path(out.name).replace(file)
