"""CIFAR and MNIST as TFDS stores them (its own builders over images made here): read whole and streamed."""

import contextlib
import io

import numpy as np
import pytest
import tensorflow_datasets as tfds

from prune_jax import data

SETS = {
    "cifar10": (tfds.image_classification.Cifar10, (32, 32, 3), {"id": "train_1"}),
    "cifar100": (tfds.image_classification.Cifar100, (32, 32, 3), {"id": "train_1", "coarse_label": 3}),
    "mnist": (tfds.image_classification.MNIST, (28, 28, 1), {}),
}


def made(name):
    """Images (n, h, w, c) and labels of the two splits."""
    shape, rng = SETS[name][1], np.random.default_rng(len(name))
    return {
        split: (rng.integers(0, 256, (n, *shape)).astype(np.uint8), rng.integers(0, 10, n))
        for split, n in (("train", 30), ("test", 12))
    }


def write(name, folder):
    """PNG files handed over as bytes, which TFDS stores as they are: no TensorFlow."""
    real, _, more = SETS[name]

    def examples(images, labels):
        for i, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            file = io.BytesIO()
            data.images.from_pixels(pixels).save(file, "PNG")
            yield i, {"image": io.BytesIO(file.getvalue()), "label": int(label), **more}

    class Fake(real, skip_registration=True):
        pkg_dir_path = real._get_pkg_dir_path()

        def _split_generators(self, dl_manager):
            return {split: examples(*arrays) for split, arrays in made(name).items()}

    Fake.name = name
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        Fake(data_dir=folder, file_format="array_record").download_and_prepare()


@pytest.mark.parametrize("name", sorted(SETS))
def test_every_image_and_label_comes_back(name, tmp_path):
    write(name, str(tmp_path))
    whole = data.open_dataset(name, data_dir=str(tmp_path))
    assert isinstance(whole, data.Dataset)
    assert whole.num_classes == (100 if name == "cifar100" else 10)
    for split, (images, labels) in made(name).items():
        read = getattr(whole, split)
        assert read.images.dtype == np.uint8
        assert read.labels.dtype == np.int32
        order, wanted = (np.lexsort(array.reshape(len(array), -1).T) for array in (read.images, images))
        np.testing.assert_array_equal(read.images[order], images[wanted])
        np.testing.assert_array_equal(read.labels[order], labels[wanted])
    streamed = data.open_dataset(name, data_dir=str(tmp_path), stream=True)
    assert streamed.input_shape == whole.input_shape
    ((images, labels, _),) = data.open_stream(streamed, batch_size=12, seed=0, train=False, recipe=None)
    np.testing.assert_array_equal(images, whole.test.images)
    np.testing.assert_array_equal(labels, whole.test.labels)
