"""ImageNet and the part of it called ImageNet100: its manual downloads, and which classes are used."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from prune_jax import nearest


class Entry(NamedTuple):
    """A name: the TFDS set behind it, and how many of its classes are used."""

    builder: str
    classes: int


ARCHIVES = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")
ALL_CLASSES = 1000
# ImageNet100 is 100 of ImageNet's classes. The paper doesn't say which.
ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        "imagenet2012": Entry("imagenet2012", ALL_CLASSES),
        "imagenet100": Entry("imagenet2012", 100),
    }
)


def choose_classes(name: str, seed: int, file: str, label_names: Sequence[str]) -> tuple[int, ...]:
    """The ids, ascending, of the classes that ``name`` uses of ImageNet's. Empty where it uses all.

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
    """The ids in a file of one class a line, each a number or a WordNet id such as n01440764. '#' begins a comment.

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
            raise ValueError(
                f"{where} is unknown; allowed: 0 to {len(label_names) - 1} or a WordNet id such as "
                f"{label_names[0]}{nearest.hint(text, label_names)}"
            )
        if known[text] in found:
            raise ValueError(f"{where} was on line {found[known[text]]} already; each class is listed once")
        found[known[text]] = number
    if len(found) != wanted:
        raise ValueError(f"dataset.classes_file: {file} lists {len(found)} classes; {wanted} are needed")
    return tuple(sorted(found))
