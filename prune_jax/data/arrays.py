"""A data set from a user's own arrays: checked, and named by the hash of its bytes."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from prune_jax.data.tfds import Dataset, Split

SPLITS = ("train", "test")
FORM = "{'train': (images, labels), 'test': (images, labels)}"


def from_arrays(name: str, made: Any, source: str = "") -> Dataset:
    """A data set of arrays in memory.

    Args:
        name: what the data set is called, for messages too: the reference in ``dataset.name``.
        made: ``{'train': (images, labels), 'test': (images, labels)}``, or the same as a pair of pairs, train first.
            Images are ``(n, height, width, channels)``, or ``(n, height, width)`` with one channel, or vectors
            ``(n, channels)``: uint8 in 0..255, or floats, which are taken as they are. Labels are integers
            ``(n,)`` in 0..K-1, where K - 1 is the largest label of the training split.
        source: the hash of the file that makes them, which becomes part of the data set's.

    Returns:
        The data set. Its images are uint8 or float32, its labels int32. Its ``content`` is a SHA-256 of 64 hex digits,
        of ``source`` and of the four arrays with their types and shapes.

    Raises:
        ValueError: in one line, for another form, shape, type or length, an empty split, a number that is not finite,
            and a label out of range.
    """
    train, test = (_split(name, split, pair) for split, pair in zip(SPLITS, _pairs(name, made), strict=True))
    for what, ours, theirs in (
        ("shape", train.images.shape[1:], test.images.shape[1:]),
        ("type", train.images.dtype, test.images.dtype),
    ):
        if ours != theirs:
            raise _wrong(
                name, f"training images of {what} {ours} and test images of {what} {theirs}; make them equal"
            )
    classes = int(train.labels.max()) + 1
    if classes < 2:
        raise _wrong(
            name, "training labels that are all 0; a classifier needs at least 2 classes, numbered from 0"
        )
    if test.labels.max() >= classes:
        raise _wrong(
            name,
            f"test label {test.labels.max()}, but training labels go to {classes - 1}; number both alike",
        )
    return Dataset(name, train, test, classes, _content((*train, *test), source))


def _content(arrays: tuple[np.ndarray, ...], source: str) -> str:
    digest = hashlib.sha256(source.encode())
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _pairs(name: str, made: Any) -> tuple[Any, Any]:
    if isinstance(made, Mapping):
        if set(made) != set(SPLITS):
            raise _wrong(name, f"a dict of {sorted(map(str, made))}; it must be {FORM}")
        made = tuple(made[split] for split in SPLITS)
    pairs = isinstance(made, tuple | list) and len(made) == 2
    if not pairs or any(not isinstance(pair, tuple | list) or len(pair) != 2 for pair in made):
        raise _wrong(name, f"{type(made).__name__}; it must be {FORM}, or the two pairs, train first")
    return made[0], made[1]


def _split(name: str, split: str, pair: Any) -> Split:
    images, labels = map(np.asarray, pair)
    if images.ndim not in (2, 3, 4):
        raise _wrong(
            name,
            f"{split} images of shape {images.shape}; they must be (n, height, width, channels), (n, height, "
            "width) or vectors (n, channels)",
        )
    if labels.shape != images.shape[:1]:
        raise _wrong(
            name, f"{len(images)} {split} images and labels of shape {labels.shape}; one label an image"
        )
    if not images.size:
        raise _wrong(name, f"no {split} images (shape {images.shape}); both splits need some")
    return Split(_images(name, split, images), _labels(name, split, labels))


def _images(name: str, split: str, images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise _wrong(
            name,
            f"{split} images of type {images.dtype}; make them uint8 in 0..255, or floats, which are taken as "
            "they are",
        )
    images = images.astype(np.float32)
    if not np.isfinite(images).all():
        count = int((~np.isfinite(images)).sum())
        raise _wrong(
            name, f"{count} numbers in the {split} images that are NaN or infinite in float32; remove them"
        )
    return images


def _labels(name: str, split: str, labels: np.ndarray) -> np.ndarray:
    if not np.issubdtype(labels.dtype, np.integer):
        raise _wrong(name, f"{split} labels of type {labels.dtype}; make them integers, 0 to K-1")
    if labels.min() < 0:
        raise _wrong(name, f"{split} label {labels.min()}; classes are numbered from 0")
    if labels.max() >= np.iinfo(np.int32).max:
        raise _wrong(name, f"{split} label {labels.max()}; classes are numbered 0 to K-1")
    return labels.astype(np.int32)


def _wrong(name: str, what: str) -> ValueError:
    return ValueError(f"dataset.name is {name!r}, which gives {what}")
