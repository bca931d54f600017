"""Data sets by their TensorFlow Datasets name, as host arrays, without TensorFlow at run time."""

import contextlib
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from prune_jax import nearest
from prune_jax.data import idx, packaged
from prune_jax.data.imagenet import ENTRIES
from prune_jax.data.preparing import NotPreparedError, not_prepared, other_format
from prune_jax.data.turns import turn

TEXTS = ("stdlib_text", "text_folder")  # windows of bytes, see text.py
_ELSEWHERE = ("synthetic", *TEXTS, *ENTRIES)
OTHER_NAMES = ("imagenet100", "synthetic", *TEXTS)  # known here, but neither packaged nor TFDS's
SHOWN = 8  # features that a refusal lists


class Split(NamedTuple):
    """Images uint8 ``(n, height, width, channels)`` and labels int32 ``(n,)``."""

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """A data set that fits the host: its name, its two splits and its number of classes.

    ``content``: of a user's own arrays and of IDX files the hash of their bytes. '' for a set that its name says
    everything about.
    """

    name: str
    train: Split
    test: Split
    num_classes: int
    content: str = ""

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
    """The TFDS builder of ``name``. Packaged sets are split by ``split_seed``, IDX files are wrapped.

    For 'imagenet100' it is the builder of the whole of ImageNet. Raises ValueError for a name that neither
    this package nor TFDS knows, for one that TFDS can't open without a package that isn't here, and for data
    that aren't images with one label each.
    """
    files = idx_files(name, data_dir)
    if files:
        return idx.builder_of(name, files, data_dir)
    builders = tfds.list_builders(with_community_datasets=False)
    known = list(
        dict.fromkeys([*packaged.NAMES, *OTHER_NAMES, *builders])
    )  # packaged ones are registered as well
    if name not in known and not idx.is_name(name):
        meant = nearest.hint(name, known, most=3) or f"; here at once: {', '.join(packaged.NAMES)}"
        raise ValueError(f"dataset.name: unknown data set {name!r}{meant}")
    if packaged.is_packaged(name):
        config = packaged.packaged_config(name, split_seed)
        return tfds.builder(name, config=config, data_dir=data_dir or None, file_format="array_record")
    try:
        with contextlib.redirect_stdout(
            io.StringIO()
        ):  # TFDS says there at length that TensorFlow is missing
            builder = tfds.builder(
                ENTRIES[name].builder if name in ENTRIES else name, data_dir=data_dir or None
            )
            refuse_other_features(name, builder.info.features)
    except ImportError as error:
        raise ValueError(
            f"dataset.name: TFDS can't open {name!r} without a package that is not installed "
            f"({str(error).splitlines()[-1].rpartition(': ')[2]}); for TensorFlow: pip install '.[prepare]'"
        ) from error
    return builder


def idx_files(name: str, data_dir: str | None) -> idx.IdxFiles | None:
    """The four IDX files of ``name``, in ``data_dir`` or where a package of the system puts them.

    None where there are none.

    Names that are packaged, synthetic, or TFDS's and of another form are never read from such files.
    """
    if packaged.is_packaged(name) or name in _ELSEWHERE:
        return None
    files = idx.find_files(name, data_dir)
    others = files and not idx.is_name(name) and name in tfds.list_builders(with_community_datasets=False)
    return None if others else files


def refuse_other_features(name: str, features: Any) -> None:
    """Raise ValueError unless a data set's examples are an 'image' of height, width and channels and a 'label'."""
    there = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = there.get("image"), there.get("label")
    missing = []
    if not isinstance(image, tfds.features.Image | tfds.features.Tensor) or len(image.shape) != 3:
        missing.append("'image' (height, width, channels)")
    if not isinstance(label, tfds.features.ClassLabel):
        missing.append("'label' (one class)")
    if missing:
        kinds = [f"{key} ({type(there[key]).__name__})" for key in sorted(there)] or [type(features).__name__]
        raise ValueError(
            f"dataset.name: {name!r} has no feature {' and no '.join(missing)}, which a network that classifies "
            f"images needs; it has {', '.join(kinds[:SHOWN])}{' and more' * (len(kinds) > SHOWN)}"
        )


def prepared_builder(
    name: str, *, split_seed: int = 0, data_dir: str | None = None
) -> tfds.core.DatasetBuilder:
    """``find_builder`` of a set whose files are there. Packaged ones and IDX files are prepared on first use.

    Raises NotPreparedError, which says the exact command, when they are missing or not as ArrayRecord.
    """
    builder = find_builder(name, split_seed=split_seed, data_dir=data_dir)
    if not builder.is_prepared():
        if not packaged.is_packaged(name) and not isinstance(builder, idx.IdxImages):
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

    The packaged sets (``mnist5k``, ``digits``) are prepared on first use. IDX files are read as they are. ``data_dir``
    defaults to TFDS's (``TFDS_DATA_DIR`` or ``~/tensorflow_datasets``).

    Raises ValueError for an unknown name, for a data set without these splits, for images that vary in size, and for a
    set larger than ``max_gib``. Raises NotPreparedError where its files are missing.
    """
    files = idx_files(name, data_dir)
    if files:
        return _whole_idx(name, idx.read_files(files), max_gib)
    builder = prepared_builder(name, split_seed=split_seed, data_dir=data_dir)
    refuse_varying(name, builder.info.features["image"].shape)
    refuse_absent(name, builder, ("train", "test"))
    _refuse_larger(name, size_gib(builder, ("train", "test")), max_gib)
    classes = builder.info.features["label"].num_classes
    return Dataset(name, _read(builder, "train"), _read(builder, "test"), classes)


def _whole_idx(name: str, arrays: idx.IdxArrays, max_gib: float) -> Dataset:
    _refuse_larger(name, (arrays.train_images.nbytes + arrays.test_images.nbytes) / 2**30, max_gib)
    train = Split(arrays.train_images, arrays.train_labels.astype(np.int32))
    test = Split(arrays.test_images, arrays.test_labels.astype(np.int32))
    return Dataset(name, train, test, arrays.num_classes, arrays.content)


def _refuse_larger(name: str, gib: float, max_gib: float) -> None:
    if gib > max_gib:
        raise ValueError(f"data set {name!r} takes {gib:.1f} GiB, more than the allowed {max_gib} GiB")


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
        # TFDS announces a download, but nothing is downloaded
        with turn(root / f".{builder.name}.preparing"), contextlib.redirect_stdout(io.StringIO()):
            if not builder.is_prepared():
                builder.download_and_prepare()
    except (OSError, RuntimeError) as error:  # ArrayRecord reports a full disk as a RuntimeError
        raise NotPreparedError(
            f"data set {builder.name!r} can't be written under {root} "
            f"({str(error).splitlines()[0][:160]}): free disk space, or choose another dataset.data_dir"
        ) from error


def _read(builder: tfds.core.DatasetBuilder, split: str) -> Split:
    source = builder.as_data_source(split=split)
    examples = source.__getitems__(list(range(len(source))))
    images = np.stack([example["image"] for example in examples])
    return Split(images, np.array([example["label"] for example in examples], np.int32))
