"""A small ImageNet made of generated JPEGs, written by TFDS itself in the real one's form, without TensorFlow.

Run it to look at one: python tests/fake_imagenet.py FOLDER [LEAST MOST], with sides of LEAST to MOST
pixels (20 to 120), then use --config.dataset.data_dir=FOLDER.
"""

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image
from tensorflow_datasets.datasets.imagenet2012 import imagenet2012_dataset_builder as real


class FakeImagenet(real.Builder, skip_registration=True):
    """TFDS's own ImageNet builder (its features, label names, version) over images made here.

    TFDS encodes arrays with TensorFlow, but takes files of encoded bytes as they are.
    """

    name = "imagenet2012"
    pkg_dir_path = epath.Path(real.__file__).parent  # where TFDS finds the label names
    counts = (400, 100)  # train, validation
    classes = tuple(range(0, 1000, 10))
    sides = (20, 120)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        return {
            split: self._generate_examples(split, count)
            for split, count in zip(("train", "validation"), self.counts, strict=True)
        }

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
        names = self.info.features["label"].names
        for i in range(count):
            label = self.classes[i % len(self.classes)]
            file_name = f"{names[label]}_{split}{i}.JPEG"
            encoded = fake_jpeg(label, (split == "train", i), self.sides)
            yield file_name, {"image": io.BytesIO(encoded), "label": label, "file_name": file_name}


def fake_jpeg(label: int, seed: tuple[int, int], sides: tuple[int, int] = FakeImagenet.sides) -> bytes:
    """A JPEG whose height and width lie in ``sides``: stripes whose colour and width tell the label, and noise."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(sides[0], sides[1] + 1, 2)
    tint = np.random.default_rng(label).integers(0, 256, 3)
    stripes = (np.arange(width) // (2 + label % 7)) % 2
    pixels = np.broadcast_to(stripes[None, :, None] * tint, (height, width, 3)) + rng.integers(
        0, 40, (height, width, 3)
    )
    file = io.BytesIO()
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    (picture.convert("L") if seed[1] % 20 == 7 else picture).save(
        file, "JPEG", quality=90
    )  # ImageNet has grey ones
    return file.getvalue()


def write_fake_imagenet(data_dir: str, sides: tuple[int, int] = FakeImagenet.sides) -> None:
    """Prepare the fake ImageNet under ``data_dir``, where ``tfds.builder('imagenet2012')`` finds it."""
    tfds.disable_progress_bar()
    builder = FakeImagenet(data_dir=data_dir, file_format="array_record")
    builder.sides = sides
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()


if __name__ == "__main__":
    given = tuple(map(int, sys.argv[2:4]))
    write_fake_imagenet(sys.argv[1], (given[0], given[1]) if given else FakeImagenet.sides)
