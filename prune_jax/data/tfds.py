"""Data sets by their TensorFlow Datasets name, as host arrays, without TensorFlow at run time."""

import contextlib
import difflib
import io
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from prune_jax.data import packaged
from prune_jax.data.streamed import STREAMED, advice, prepare_command


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


class NotPreparedError(RuntimeError):
    """The data set is known, but its files are not there; the message says the command that makes them."""


def find_builder(name: str, *, split_seed: int = 0, data_dir: str | None = None) -> tfds.core.DatasetBuilder:
    """The TFDS builder of ``name`` in ArrayRecord form; the packaged sets are split by ``split_seed``.

    Raises ValueError for a name that neither this package nor TFDS knows.
    """
    config = packaged.packaged_config(name, split_seed) if packaged.is_packaged(name) else None
    known = [*packaged.NAMES, *tfds.list_builders(with_community_datasets=False)]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or packaged.NAMES
        raise ValueError(f"dataset.name: unknown data set {name!r}; nearest: {', '.join(near)}")
    return tfds.builder(name, config=config, data_dir=data_dir or None, file_format="array_record")


def input_of(name: str, *, split_seed: int = 0, data_dir: str | None = None) -> tuple[tuple[int, ...], int]:
    """Image shape ``(height, width, channels)`` and number of classes of ``name``, without reading it.

    Raises ValueError for an unknown name and for a set whose images vary in size.
    """
    if name in STREAMED:
        return STREAMED[name].image_shape, STREAMED[name].classes
    features = find_builder(name, split_seed=split_seed, data_dir=data_dir).info.features
    _refuse_varying(name, features["image"].shape)
    return tuple(features["image"].shape), features["label"].num_classes


def load(name: str, *, split_seed: int = 0, data_dir: str | None = None, max_gib: float = 8.0) -> Dataset:
    """Read splits ``train`` and ``test`` of ``name`` whole into host memory.

    The packaged sets (``mnist5k``, ``digits``) are prepared on first use; ``data_dir`` defaults to TFDS's
    (``TFDS_DATA_DIR`` or ``~/tensorflow_datasets``). Raises ValueError for an unknown name, a data set
    without these splits or larger than ``max_gib``; NotPreparedError when its files are missing, or when
    it is one that only a streaming pipeline could feed.
    """
    if name in STREAMED:
        home = find_builder(STREAMED[name].builder, data_dir=data_dir).data_dir_root
        raise NotPreparedError(advice(name, str(home)))
    builder = find_builder(name, split_seed=split_seed, data_dir=data_dir)
    if not builder.is_prepared():
        _prepare(builder)
    absent = {"train", "test"} - set(builder.info.splits)
    if absent:
        raise ValueError(
            f"dataset.name: {name!r} has no split {sorted(absent)}, only {list(builder.info.splits)}"
        )
    _refuse_larger(builder, max_gib)
    classes = builder.info.features["label"].num_classes
    return Dataset(name, _read(builder, "train"), _read(builder, "test"), classes)


def _prepare(builder: tfds.core.DatasetBuilder) -> None:
    if not packaged.is_packaged(builder.name):
        command = prepare_command(builder.name, str(builder.data_dir_root))
        raise NotPreparedError(
            f"data set {builder.name!r} is not prepared under {builder.data_dir_root}. Prepare it once where "
            f"TensorFlow is installed and the source can be reached: {command}"
        )
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces a download; nothing is downloaded
            builder.download_and_prepare()
    except (OSError, RuntimeError) as error:  # ArrayRecord reports a full disk as a RuntimeError
        raise NotPreparedError(
            f"data set {builder.name!r} can't be written under {builder.data_dir_root} "
            f"({str(error).splitlines()[0][:160]}): free disk space, or choose another dataset.data_dir"
        ) from error


def _refuse_larger(builder: tfds.core.DatasetBuilder, max_gib: float) -> None:
    shape = builder.info.features["image"].shape
    examples = sum(builder.info.splits[split].num_examples for split in ("train", "test"))
    _refuse_varying(builder.name, shape)
    gib = examples * float(np.prod(shape)) / 2**30
    if gib > max_gib:
        raise ValueError(
            f"data set {builder.name!r} takes {gib:.1f} GiB, more than the allowed {max_gib} GiB"
        )


def _refuse_varying(name: str, shape: tuple[int | None, ...]) -> None:
    if None in shape:
        raise ValueError(
            f"data set {name!r} has images of varying size {tuple(shape)}; only fixed sizes load whole"
        )


def _read(builder: tfds.core.DatasetBuilder, split: str) -> Split:
    source = builder.as_data_source(split=split)
    examples = source.__getitems__(list(range(len(source))))
    images = np.stack([example["image"] for example in examples])
    return Split(images, np.array([example["label"] for example in examples], np.int32))
