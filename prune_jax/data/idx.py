"""Data sets as four IDX files, the form of MNIST, Fashion-MNIST, KMNIST and EMNIST: found, read, wrapped for TFDS.

An IDX file is a header of big-endian numbers and then the values: two zero bytes, a byte for the type (8: uint8), a
byte for the number of axes, and four bytes for the length of each axis. The form is described at
http://yann.lecun.com/exdb/mnist/.
"""

import dataclasses
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

NAMES = ("mnist", "fashion_mnist", "kmnist", "emnist")
# Where packages of Linux distributions put them.
DEBIAN: Mapping[str, Path] = MappingProxyType({"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")})
PACKAGES: Mapping[str, str] = MappingProxyType(
    {"fashion_mnist": "apt-get install dataset-fashion-mnist on Debian, or "}
)
UINT8 = 8


class IdxFiles(NamedTuple):
    """The four files of a set, each plain or compressed with gzip."""

    train_images: Path
    train_labels: Path
    test_images: Path
    test_labels: Path


def is_name(name: str) -> bool:
    """Whether ``name`` is a set that is published as IDX files. 'emnist/letters' names one part of EMNIST.

    >>> is_name("fashion_mnist"), is_name("emnist/letters"), is_name("digits")
    (True, True, False)
    """
    return name.partition("/")[0] in NAMES


def find_files(name: str, data_dir: str | None, debian: Mapping[str, Path] = DEBIAN) -> IdxFiles | None:
    """The four IDX files of ``name``.

    Args:
        name: the set, such as 'fashion_mnist'. A part that the files are named after follows a slash: 'emnist/letters'.
        data_dir: a folder that holds them, or that holds a folder ``name`` which does. None: the next place alone.
        debian: where packages put them, by name, which is looked at last.

    Returns:
        The files. None where no place holds all four.

    Raises:
        ValueError: for a folder that holds several sets, of which ``name`` chooses none.
    """
    base, _, part = name.partition("/")
    places = [Path(data_dir), Path(data_dir) / base] if data_dir else []
    for folder in [*places, *([debian[base]] if base in debian else [])]:
        found = [_one_of(name, folder, part, role) for role in _ROLES]
        if all(found):
            return IdxFiles(*(file for file in found if file))
    return None


_ROLES = tuple(
    re.compile(rf"(^|[^a-z0-9])({split})[^a-z0-9]{kind}[^a-z0-9]idx\d[^a-z0-9]ubyte(\.gz)?$")
    for split in ("train", "t10k|test")
    for kind in ("images", "labels")
)


def _one_of(name: str, folder: Path, part: str, role: re.Pattern[str]) -> Path | None:
    here = sorted(folder.iterdir()) if folder.is_dir() else []
    files = {file.name.removesuffix(".gz"): file for file in reversed(here) if role.search(file.name.lower())}
    files = {
        key: file for key, file in files.items() if part in re.split(r"[^a-z0-9]", key.lower()) or not part
    }
    if len(files) > 1:
        raise ValueError(
            f"dataset.name: {folder} holds {len(files)} sets in IDX files ({', '.join(sorted(files))}); choose one by "
            f"a word of their names, such as dataset.name='{name.partition('/')[0]}/letters'"
        )
    return next(iter(files.values()), None)


class IdxArrays(NamedTuple):
    """What the files hold: uint8 images ``(n, height, width, 1)``, int64 labels ``(n,)``, and a hash of it all.

    ``content`` is a SHA-256, 64 hex digits, of the four files as they are without compression.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    content: str

    @property
    def num_classes(self) -> int:
        """Labels are numbered from 0. EMNIST's letters from 1, so that class 0 has no example."""
        return int(self.train_labels.max()) + 1


def read_files(files: IdxFiles) -> IdxArrays:
    """The images and labels of a set, in the order of the files.

    Raises ValueError, naming the file, for one that is damaged or no IDX file, for images and labels of different
    number, and for a test label that no training image has.
    """
    raw = [_read_bytes(file) for file in files]
    arrays = [parse(data, axes, str(file)) for data, axes, file in zip(raw, (3, 1, 3, 1), files, strict=True)]
    for i in (0, 2):
        if len(arrays[i]) != len(arrays[i + 1]) or not len(arrays[i]):
            raise ValueError(
                f"{files[i]} holds {len(arrays[i])} images and {files[i + 1]} {len(arrays[i + 1])} labels; take both "
                "files from one set, with at least one image"
            )
    if arrays[0].shape[1:] != arrays[2].shape[1:] or arrays[3].max() > arrays[1].max():
        raise ValueError(
            f"{files.test_images} holds images of shape {arrays[2].shape[1:]} and labels to {arrays[3].max()}, the "
            f"training files {arrays[0].shape[1:]} and {arrays[1].max()}; take all four files from one set"
        )
    digest = hashlib.sha256()
    for data in raw:
        digest.update(data)
    images = [arrays[i][..., None] for i in (0, 2)]
    labels = [arrays[i].astype(np.int64) for i in (1, 3)]
    return IdxArrays(images[0], labels[0], images[1], labels[1], digest.hexdigest())


def parse(data: bytes, axes: int, source: str) -> np.ndarray:
    """The uint8 array of ``axes`` axes in the bytes of an IDX file. ``source`` names it in errors.

    >>> parse(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]), 1, "labels").tolist()
    [7, 8, 9]

    Raises ValueError for another type or number of axes, and for bytes that are too few or too many.
    """
    begin = 4 + 4 * axes
    if len(data) < begin or data[:4] != bytes([0, 0, UINT8, axes]):
        raise ValueError(
            f"{source} begins with bytes {list(data[:4])}; an IDX file of uint8 with {axes} axes begins with "
            f"{[0, 0, UINT8, axes]}: take the file as its authors publish it"
        )
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", axes, 4))
    wanted = int(np.prod(shape, dtype=np.int64))
    if len(data) - begin != wanted:
        raise ValueError(
            f"{source} says shape {shape}, which is {wanted} bytes, and holds {len(data) - begin}; it is damaged: "
            "download it again"
        )
    return np.frombuffer(data, np.uint8, offset=begin).reshape(shape)


def input_of(files: IdxFiles) -> tuple[tuple[int, int, int], int]:
    """Shape ``(height, width, 1)`` of an image and number of classes: from the images no more than the header."""
    with _opened(files.train_images) as file:
        header = file.read(16)
    height, width = (int(size) for size in np.frombuffer(header, ">u4", 4)[2:])
    labels = parse(_read_bytes(files.train_labels), 1, str(files.train_labels))
    return (height, width, 1), int(labels.max()) + 1


def _opened(file: Path) -> IO[bytes]:
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")  # type: ignore[return-value]


def _read_bytes(file: Path) -> bytes:
    try:
        with _opened(file) as opened:
            return opened.read()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file} can't be read ({error}); download it again") from error


@dataclasses.dataclass(eq=False)
class IdxConfig(tfds.core.BuilderConfig):
    """Which files a builder reads. Its name is of the set and of what the files hold."""

    files: IdxFiles | None = None
    shape: tuple[int, ...] = ()
    num_classes: int = 0
    content: str = ""


class IdxImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A TFDS builder over four IDX files, in their order. What a stream reads is prepared from them."""

    name = "idx_images"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: list[IdxConfig] = []  # noqa: RUF012  (the name and type are TFDS's)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Tensor(shape=self.builder_config.shape, dtype=np.uint8),
            "label": tfds.features.ClassLabel(num_classes=self.builder_config.num_classes),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Images and labels from IDX files, in the order of the files.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        arrays = read_files(self.builder_config.files)
        return {
            "train": self._generate_examples(arrays.train_images, arrays.train_labels),
            "test": self._generate_examples(arrays.test_images, arrays.test_labels),
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            yield i, {"image": image, "label": label}


def builder_of(name: str, files: IdxFiles, data_dir: str | None) -> IdxImages:
    """The builder of set ``name`` over ``files``, whose prepared copy lies under ``data_dir``."""
    arrays = read_files(files)
    config = IdxConfig(
        name=f"{name.replace('/', '_')}-{arrays.content[:16]}",
        files=files,
        shape=arrays.train_images.shape[1:],
        num_classes=arrays.num_classes,
        content=arrays.content,
    )
    return IdxImages(config=config, data_dir=data_dir or None, file_format="array_record")
