"""One door to every data set: on the device where it fits, else streamed."""

from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from prune_jax.data import idx, imagenet, text
from prune_jax.data import tfds as whole
from prune_jax.data.images import ImageRecipe
from prune_jax.data.labels import list_labels, records_of
from prune_jax.data.streamed import StreamedDataset, open_split
from prune_jax.data.subset import stratified_subset, take_train
from prune_jax.data.synthetic import NAME as SYNTHETIC
from prune_jax.data.synthetic import synthetic
from prune_jax.data.tfds import Dataset

STREAM = ("auto", True, False)


class Synthetic(NamedTuple):
    """Shape (h, w, c), number of classes and of examples of the data set named 'synthetic'."""

    shape: tuple[int, ...] = (224, 224, 3)
    classes: int = 1000
    examples: int = 1024


SIZES = Synthetic()
WINDOW = 128  # bytes of a text that are one example


def open_dataset(
    name: str,
    *,
    split_seed: int = 0,
    data_dir: str | None = None,
    stream: bool | str = "auto",
    fits_gib: float = 8.0,
    recipe: ImageRecipe | None = None,
    classes_seed: int = 0,
    classes_file: str = "",
    sizes: Synthetic = SIZES,
    train_examples: int = 0,
    window: int = WINDOW,
) -> Dataset | StreamedDataset:
    """Data set ``name``: whole in memory, or to be streamed.

    Args:
        name: of a packaged set, of IDX files, of a set of TFDS, or of a text.
        split_seed: says what packaged sets hold out for testing. It also draws ``train_examples``.
        data_dir: the folder of its files. None: where the system or TFDS keeps them.
        stream: True, False or 'auto'. 'auto' streams what takes more than ``fits_gib``, and what ``recipe`` prepares.
        fits_gib: GiB that a set may take in memory under 'auto'.
        recipe: how the host prepares each image. Images that vary in size need one.
        classes_seed: draws the classes of 'imagenet100', where no file names them.
        classes_file: names the classes of 'imagenet100', one a line.
        sizes: of 'synthetic'.
        train_examples: so many of the training split, in its proportions of classes. 0: all.
        window: bytes that a text is cut into, see ``text.load_text``.

    Returns:
        The whole data set as arrays, or one whose images are read while it is used.

    Raises:
        ValueError: the name is unknown, or choices don't go together. This comes before anything is read.
        NotPreparedError: files of the set are missing. This comes before anything is read too.
    """
    if stream not in STREAM:
        raise ValueError(f"dataset.stream is {stream!r}; allowed: 'auto', True, False")
    if classes_file and name != "imagenet100":
        raise ValueError(f"dataset.classes_file is for dataset.name='imagenet100', not {name!r}")
    if stream is False and recipe is not None:
        raise ValueError(
            f"dataset.stream is False and dataset.size {recipe.size}; crops of images of any size are made while "
            "streaming: leave dataset.stream='auto', or set dataset.size=0"
        )
    if name in text.NAMES:
        _refuse_streamed_text(name, stream)
        return text.load_text(
            name, length=window, data_dir=data_dir, split_seed=split_seed, train_examples=train_examples
        )
    if name == SYNTHETIC:
        _refuse_streamed_synthetic(stream, recipe)
        return take_train(synthetic(*sizes), train_examples, split_seed)
    if recipe is None and stream is not True and whole.idx_files(name, data_dir):
        dataset = whole.load(name, data_dir=data_dir, max_gib=float("inf"))
        gib = (dataset.train.images.nbytes + dataset.test.images.nbytes) / 2**30
        if stream is False or gib <= fits_gib:
            return take_train(dataset, train_examples, split_seed)
    builder = whole.prepared_builder(name, split_seed=split_seed, data_dir=data_dir)
    splits = (
        "train",
        "validation" if name in imagenet.ENTRIES else "test",
    )  # ImageNet's test labels are secret
    whole.refuse_absent(name, builder, splits)
    if recipe is None:
        whole.refuse_varying(name, builder.info.features["image"].shape)
        if stream is False or (stream == "auto" and whole.size_gib(builder, splits) <= fits_gib):
            dataset = whole.load(name, split_seed=split_seed, data_dir=data_dir, max_gib=float("inf"))
            return take_train(dataset, train_examples, split_seed)
    classes: tuple[int, ...] = ()
    if name in imagenet.ENTRIES:
        names = builder.info.features["label"].names
        classes = imagenet.choose_classes(name, classes_seed, classes_file, names)
    return _streamed(name, builder, splits, classes, recipe, (train_examples, split_seed))


def varies(name: str, *, data_dir: str | None = None) -> bool:
    """Whether the images of ``name`` have no common size. Raises ValueError for an unknown name."""
    if name in (SYNTHETIC, *text.NAMES) or whole.idx_files(name, data_dir):
        return False
    return None in whole.find_builder(name, data_dir=data_dir).info.features["image"].shape


def input_of(
    name: str,
    *,
    split_seed: int = 0,
    data_dir: str | None = None,
    sizes: Synthetic = SIZES,
    size: int = 0,
    window: int = WINDOW,
) -> tuple[tuple[int, ...], int]:
    """Image shape ``(height, width, channels)`` and number of classes of ``name``, without reading it.

    Images that vary in size become ``size`` by ``size``. Of a text they are ``(window,)`` and 256.
    Raises ValueError for an unknown name, and for such images where ``size`` is 0.
    """
    if name == SYNTHETIC:
        return tuple(sizes.shape), sizes.classes
    if name in text.NAMES:
        return (window,), text.BYTES
    files = whole.idx_files(name, data_dir)
    if files:
        return idx.input_of(files)
    features = whole.find_builder(name, split_seed=split_seed, data_dir=data_dir).info.features
    shape = tuple(features["image"].shape)
    if None in shape and size:
        shape = (size, size, shape[-1])
    whole.refuse_varying(name, shape)
    classes = features["label"].num_classes
    return shape, imagenet.ENTRIES[name].classes if name in imagenet.ENTRIES else classes


def _streamed(
    name: str,
    builder: tfds.core.DatasetBuilder,
    splits: tuple[str, ...],
    classes: tuple[int, ...],
    recipe: ImageRecipe | None,
    subset: tuple[int, int],
) -> StreamedDataset:
    labels = builder.info.features["label"].num_classes
    here = {old: number for number, old in enumerate(classes)}
    numbers = tuple(here.get(old, -1) for old in range(labels)) if classes else None
    records = [records_of(builder, split, classes) if classes else None for split in splits]
    records[0] = _subset_records(builder, splits[0], records[0], *subset)
    train, test = (
        open_split(builder, split, chosen, numbers) for split, chosen in zip(splits, records, strict=True)
    )
    for split in (train, test):
        if not len(split):
            raise ValueError(
                f"dataset.classes_file: {split.name} holds no example of the {len(classes)} classes"
            )
    shape = split.image_shape
    if recipe is not None:
        shape = (recipe.size, recipe.size, shape[-1])
    content = builder.builder_config.content if isinstance(builder, idx.IdxImages) else ""
    return StreamedDataset(name, train, test, len(classes) or labels, shape, classes, content)


def _subset_records(
    builder: tfds.core.DatasetBuilder, split: str, records: np.ndarray | None, examples: int, seed: int
) -> np.ndarray | None:
    """A stratified subset of ``examples`` of these records, or of all records (None). 0 leaves them as they are."""
    if not examples:
        return records
    labels = list_labels(builder, split)
    records = np.arange(len(labels)) if records is None else records
    return records[stratified_subset(labels[records], examples, seed)]


def _refuse_streamed_text(name: str, stream: bool | str) -> None:
    if stream is True:
        raise ValueError(
            f"dataset.stream is True, but {name!r} lies in memory whole: set dataset.stream='auto' (a stream of "
            "your own reads data.text_builder)"
        )


def _refuse_streamed_synthetic(stream: bool | str, recipe: ImageRecipe | None) -> None:
    if stream is True or recipe is not None:
        raise ValueError(
            "dataset.name 'synthetic' lives on the device: set dataset.stream='auto' and dataset.size=0"
        )
