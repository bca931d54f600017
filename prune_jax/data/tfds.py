"""Data sets by their TensorFlow Datasets name, as host arrays, without TensorFlow at run time."""

import contextlib
import difflib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import filelock
import numpy as np
import tensorflow_datasets as tfds

from prune_jax import leases
from prune_jax.data import packaged
from prune_jax.data.imagenet import ENTRIES
from prune_jax.data.preparing import NotPreparedError, not_prepared, other_format

# A process that died while it made a packaged set loses its lease after so long; making one takes a few seconds.
LEASE_SECONDS = 60.0

OTHER_NAMES = ("imagenet100", "synthetic")  # known here, but neither packaged nor TFDS's


class Split(NamedTuple):
    """Images uint8 ``(n, height, width, channels)`` and labels int32 ``(n,)``."""

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """A data set that fits the host: its name, its two splits and its number of classes."""

    name: str
    train: Split
    test: Split
    num_classes: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image, ``(height, width, channels)``."""
        return self.train.images.shape[1:]

    @property
    def train_size(self) -> int:
        """Number of training examples."""
        return len(self.train.labels)

    @property
    def test_size(self) -> int:
        """Number of test examples."""
        return len(self.test.labels)


def find_builder(name: str, *, split_seed: int = 0, data_dir: str | None = None) -> tfds.core.DatasetBuilder:
    """The TFDS builder of ``name``; the packaged sets are split by ``split_seed``.

    For 'imagenet100' it is the builder of the whole of ImageNet. Raises ValueError for a name that neither
    this package nor TFDS knows.
    """
    known = [*packaged.NAMES, *OTHER_NAMES, *tfds.list_builders(with_community_datasets=False)]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or packaged.NAMES
        raise ValueError(f"dataset.name: unknown data set {name!r}; nearest: {', '.join(near)}")
    if packaged.is_packaged(name):
        config = packaged.packaged_config(name, split_seed)
        return tfds.builder(name, config=config, data_dir=data_dir or None, file_format="array_record")
    return tfds.builder(ENTRIES[name].builder if name in ENTRIES else name, data_dir=data_dir or None)


def prepared_builder(
    name: str, *, split_seed: int = 0, data_dir: str | None = None
) -> tfds.core.DatasetBuilder:
    """``find_builder`` of a set whose files are there; the packaged ones are made on first use.

    Raises NotPreparedError, which says the exact command, when they are missing or not as ArrayRecord.
    """
    builder = find_builder(name, split_seed=split_seed, data_dir=data_dir)
    if not builder.is_prepared():
        if not packaged.is_packaged(name):
            raise not_prepared(name, builder.name, str(builder.data_dir_root))
        _prepare(builder)
        # Anew: another process may have made it, which this builder would not know.
        builder = find_builder(name, split_seed=split_seed, data_dir=data_dir)
    formats = builder.info.available_file_formats()
    if tfds.core.FileFormat.ARRAY_RECORD not in formats:
        found = ", ".join(sorted(form.value for form in formats)) or "files of an unknown form"
        raise other_format(name, str(builder.data_dir), found)
    return builder


def load(name: str, *, split_seed: int = 0, data_dir: str | None = None, max_gib: float = 8.0) -> Dataset:
    """Read splits ``train`` and ``test`` of ``name`` whole into host memory.

    The packaged sets (``mnist5k``, ``digits``) are prepared on first use; ``data_dir`` defaults to TFDS's
    (``TFDS_DATA_DIR`` or ``~/tensorflow_datasets``). Raises ValueError for an unknown name, a data set
    without these splits, of images that vary in size, or larger than ``max_gib``; NotPreparedError when its
    files are missing.
    """
    builder = prepared_builder(name, split_seed=split_seed, data_dir=data_dir)
    refuse_varying(name, builder.info.features["image"].shape)
    refuse_absent(name, builder, ("train", "test"))
    gib = size_gib(builder, ("train", "test"))
    if gib > max_gib:
        raise ValueError(f"data set {name!r} takes {gib:.1f} GiB, more than the allowed {max_gib} GiB")
    classes = builder.info.features["label"].num_classes
    return Dataset(name, _read(builder, "train"), _read(builder, "test"), classes)


def size_gib(builder: tfds.core.DatasetBuilder, splits: tuple[str, ...]) -> float:
    """What the images of a prepared set, all of one size, take in memory."""
    examples = sum(builder.info.splits[split].num_examples for split in splits)
    return examples * float(np.prod(builder.info.features["image"].shape)) / 2**30


def refuse_absent(name: str, builder: tfds.core.DatasetBuilder, splits: tuple[str, ...]) -> None:
    """Raise ValueError where a prepared set lacks one of ``splits``."""
    absent = set(splits) - set(builder.info.splits)
    if absent:
        raise ValueError(
            f"dataset.name: {name!r} has no split {sorted(absent)}, only {list(builder.info.splits)}"
        )


def refuse_varying(name: str, shape: tuple[int | None, ...]) -> None:
    """Raise ValueError for images of no fixed size."""
    if None in shape:
        raise ValueError(
            f"data set {name!r} has images of varying size {tuple(shape)}; networks need one size: give "
            "--config.dataset.size=224, the ImageNet recipe's"
        )


def _prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Make a packaged set, unless another process does: then wait until it is there."""
    tfds.disable_progress_bar()
    root = Path(builder.data_dir_root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        # TFDS announces a download; nothing is downloaded
        with _leased(root / f".{builder.name}.preparing"), contextlib.redirect_stdout(io.StringIO()):
            if not builder.is_prepared():
                builder.download_and_prepare()
    except (OSError, RuntimeError) as error:  # ArrayRecord reports a full disk as a RuntimeError
        raise NotPreparedError(
            f"data set {builder.name!r} can't be written under {root} "
            f"({str(error).splitlines()[0][:160]}): free disk space, or choose another dataset.data_dir"
        ) from error


@contextlib.contextmanager
def _leased(path: Path) -> Iterator[None]:
    """Hold a lease, after whoever holds it now."""
    lease, sight = filelock.SoftFileLease(path, lease_duration=LEASE_SECONDS), None
    while True:
        try:
            lease.acquire(timeout=1.0)
            break
        except filelock.Timeout:
            sight = leases.watch_empty(path, sight, LEASE_SECONDS)
    try:
        yield
    finally:
        lease.release()


def _read(builder: tfds.core.DatasetBuilder, split: str) -> Split:
    source = builder.as_data_source(split=split)
    examples = source.__getitems__(list(range(len(source))))
    images = np.stack([example["image"] for example in examples])
    return Split(images, np.array([example["label"] for example in examples], np.int32))
