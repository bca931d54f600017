"""Data sets that don't fit into memory: what they are, and what to do while nothing streams them yet."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple


class Streamed(NamedTuple):
    """The TFDS set behind a name, the classes used of it, the size that networks see, its manual downloads."""

    builder: str
    classes: int
    image_shape: tuple[int, int, int]
    archives: tuple[str, ...]


_ARCHIVES = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")
# ImageNet100 is 100 of ImageNet's classes; which ones the paper doesn't say.
STREAMED: Mapping[str, Streamed] = MappingProxyType(
    {
        "imagenet2012": Streamed("imagenet2012", 1000, (224, 224, 3), _ARCHIVES),
        "imagenet100": Streamed("imagenet2012", 100, (224, 224, 3), _ARCHIVES),
    }
)


def advice(name: str, root: str) -> str:
    """Why ``name``, one of ``STREAMED``, can't be loaded, and the ways out; ``root`` is TFDS's folder."""
    entry = STREAMED[name]
    part = f" ({entry.classes} classes of TFDS's {entry.builder})" if entry.builder != name else ""
    return (
        f"dataset.name: {name!r}{part} doesn't fit into memory, and this release only reads whole sets; a "
        "streaming pipeline is a later step. To run the same rows now, choose data that fits, such as "
        "--config.dataset.name=mnist5k --config.model.name=resnet8, or --config.quick. To prepare the images "
        f"meanwhile, put {' and '.join(entry.archives)} into {Path(root) / 'downloads' / 'manual'} and run: "
        f"{prepare_command(entry.builder, root)}"
    )


def prepare_command(builder: str, root: str) -> str:
    """The shell command that prepares a TFDS set in the form that is read here."""
    return (
        f"python -c \"import tensorflow_datasets as tfds; tfds.builder('{builder}', "
        f"data_dir='{root}', file_format='array_record').download_and_prepare()\""
    )
