"""Data sets that are read example by example: ArrayRecord splits by example number, without TensorFlow."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from prune_jax.data import images
from prune_jax.data.images import ImageRecipe


@dataclasses.dataclass(frozen=True)
class StreamedSplit:
    """A split of a TFDS set, or of some of its classes.

    Attributes:
      name: for messages, such as 'imagenet2012/train'.
      source: TFDS's random access.
      records: ``records[i]`` is the record of example i.
      labels: ``labels[old]`` is a class's number here. None: they stay.
      image_shape: as stored. Height and width that vary are None.
    """

    name: str
    source: Any
    records: Sequence[int] | np.ndarray
    labels: tuple[int, ...] | None
    image_shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.records)


class StreamedDataset(NamedTuple):
    """A data set whose images are read while they are used. A set that fits into memory is a ``Dataset``.

    Attributes:
      name: of the set.
      train: the training split.
      test: the test split.
      num_classes: number of classes used.
      input_shape: of one image as the network gets it.
      classes: ids of the classes used, in the set that it is taken from. Empty: all.
      content: as a ``Dataset``'s.
    """

    name: str
    train: StreamedSplit
    test: StreamedSplit
    num_classes: int
    input_shape: tuple[int, ...]
    classes: tuple[int, ...] = ()
    content: str = ""

    @property
    def train_size(self) -> int:
        """Number of training examples."""
        return len(self.train)

    @property
    def test_size(self) -> int:
        """Number of test examples."""
        return len(self.test)


def open_split(
    builder: tfds.core.DatasetBuilder,
    split: str,
    records: np.ndarray | None = None,
    labels: tuple[int, ...] | None = None,
) -> StreamedSplit:
    """Open one split of a prepared builder. Encoded images stay encoded until an example is read.

    Args:
      builder: of a prepared TFDS set.
      split: its name.
      records: int array, the records that are used. None: all.
      labels: new numbers of the classes, see ``StreamedSplit``. None: they stay.

    Returns:
      The split. No image is read.
    """
    image = builder.info.features["image"]
    encoded = isinstance(image, tfds.features.Image)
    decoders = {"image": tfds.decode.SkipDecoding()} if encoded else None
    source = builder.as_data_source(split=split, decoders=decoders)
    return StreamedSplit(
        f"{builder.name}/{split}",
        source,
        range(len(source)) if records is None else records,
        labels,
        tuple(image.shape),
    )


def read_examples(
    split: StreamedSplit,
    examples: Sequence[int],
    recipe: ImageRecipe | None,
    generators: Sequence[np.random.Generator] | None,
) -> tuple[list[np.ndarray], list[int]]:
    """Read, decode and prepare some examples.

    Args:
      split: where they are.
      examples: their numbers in the split.
      recipe: how images are prepared. None: they are taken as stored.
      generators: one random generator for each example, for the recipe's training part. None: its evaluation part.

    Returns:
      Images, uint8 (height, width, channels) each, and their labels.

    Raises:
      ValueError: an image can't be read. The message names split and record.
    """
    records = [int(split.records[example]) for example in examples]
    pixels, labels = [], []
    for i, (record, example) in enumerate(zip(records, _fetch(split, records), strict=True)):
        generator = generators[i] if generators is not None else None
        try:
            pixels.append(_pixels(example["image"], split.image_shape[-1], recipe, generator))
        except ValueError as error:
            named = f" ({_text(example['file_name'])})" if "file_name" in example else ""
            raise ValueError(
                f"{split.name}: record {record}{named} holds {error}; prepare the data set again"
            ) from error
        label = int(example["label"])
        labels.append(label if split.labels is None else split.labels[label])
    return pixels, labels


def _fetch(split: StreamedSplit, records: list[int]) -> Sequence[dict[str, Any]]:
    try:
        return split.source.__getitems__(records)
    except (
        RuntimeError,
        OSError,
        ValueError,
        IndexError,
    ) as error:  # ArrayRecord's reader, a damaged or missing file
        raise ValueError(
            f"{split.name}: records {min(records)} to {max(records)} can't be read "
            f"({str(error).splitlines()[0][:160]}); prepare the data set again"
        ) from error


def _pixels(
    image: Any, channels: int, recipe: ImageRecipe | None, generator: np.random.Generator | None
) -> np.ndarray:
    if isinstance(image, np.ndarray) and image.ndim == 3:
        if recipe is None:
            return image
        picture = images.from_pixels(image)
    else:
        picture = images.decode(bytes(image), channels)
    if recipe is None:
        return images.plain_image(picture)
    if generator is None:
        return images.eval_image(picture, recipe)
    return images.train_image(picture, recipe, generator)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
