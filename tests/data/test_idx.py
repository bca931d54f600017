"""IDX files written byte by byte, and what is read of them; Debian's Fashion-MNIST where it is installed."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from prune_jax import data
from prune_jax.data import idx

TRAIN, TEST = 12, 6
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def written(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    labels = [np.arange(n) % 3 for n in (TRAIN, TEST)]
    images = [rng.integers(0, 256, (n, 5, 4)) for n in (TRAIN, TEST)]
    return images[0], labels[0], images[1], labels[1]


def write_set(folder, *, prefix="", names=FILES, packed=(".gz", ""), seed=0):
    """Four files, in turn compressed and plain."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, (name, array) in enumerate(zip(names, arrays(seed), strict=True)):
        suffix = packed[i % 2]
        raw = written(array)
        (folder / f"{prefix}{name}{suffix}").write_bytes(gzip.compress(raw) if suffix else raw)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("idx"))


def test_a_set_is_read_in_the_order_of_its_files(folder):
    loaded = data.open_dataset("kmnist", data_dir=str(folder))
    images, labels, test_images, test_labels = arrays()
    np.testing.assert_array_equal(loaded.train.images[..., 0], images)
    np.testing.assert_array_equal(loaded.train.labels, labels)
    np.testing.assert_array_equal(loaded.test.images[..., 0], test_images)
    np.testing.assert_array_equal(loaded.test.labels, test_labels)
    assert (loaded.train.images.dtype, loaded.train.labels.dtype) == (np.uint8, np.int32)
    assert loaded.num_classes == 3
    assert loaded.content == hashlib.sha256(b"".join(map(written, arrays()))).hexdigest()
    assert data.input_of("kmnist", data_dir=str(folder)) == ((5, 4, 1), 3)
    assert not data.varies("kmnist", data_dir=str(folder))


def test_a_stream_reads_the_same_through_a_builder_of_tfds(folder, tmp_path):
    here = write_set(tmp_path / "mine")
    streamed = data.open_dataset("mine", data_dir=str(tmp_path / "mine"), stream=True)
    whole = data.open_dataset("mine", data_dir=str(here))
    assert streamed.content == whole.content
    batches = data.open_stream(streamed, batch_size=TEST, seed=0, train=False, recipe=None)
    images, labels, _ = next(batches)
    np.testing.assert_array_equal(images, whole.test.images)
    np.testing.assert_array_equal(labels, whole.test.labels)
    assert list((here / "idx_images").glob(f"mine-{whole.content[:16]}/1.0.0/*train.array_record*"))


def test_compression_and_the_names_of_the_files_are_no_part_of_the_content(folder, tmp_path):
    names = [name.replace("t10k", "test").replace("-idx", ".idx") for name in FILES]
    other = write_set(tmp_path / "set", names=names, packed=("", ""))
    assert data.load("mnist", data_dir=str(other)).content == data.load("mnist", data_dir=str(folder)).content
    changed = write_set(tmp_path / "changed", seed=1)
    assert (
        data.load("mnist", data_dir=str(changed)).content != data.load("mnist", data_dir=str(folder)).content
    )


def test_a_folder_of_the_sets_name_is_found_and_a_part_is_chosen_by_its_word(tmp_path):
    names = [name.replace("t10k", "test") for name in FILES]
    for seed, part in enumerate(("letters", "balanced")):
        write_set(tmp_path / "emnist", prefix=f"emnist-{part}-", names=names, seed=seed)
    found = data.load("emnist/balanced", data_dir=str(tmp_path))
    np.testing.assert_array_equal(found.train.images[..., 0], arrays(1)[0])
    with pytest.raises(ValueError, match=r"holds 2 sets .*dataset.name='emnist/letters'"):
        data.load("emnist", data_dir=str(tmp_path))


def test_where_a_package_puts_them_comes_last(folder, tmp_path):
    other = write_set(tmp_path / "data", seed=1)
    debian = {"kmnist": folder}
    assert idx.find_files("kmnist", None, debian).test_labels.parent == folder
    assert idx.find_files("kmnist", str(other), debian).test_labels.parent == other
    assert idx.find_files("kmnist", str(tmp_path), debian).test_labels.parent == folder
    assert idx.find_files("mnist", None, debian) is None


def test_packaged_names_are_never_read_from_such_files(folder, tmp_path):
    loaded = data.input_of("digits", data_dir=str(folder))
    assert loaded == ((8, 8, 1), 10)
    assert data.input_of("cifar10", data_dir=str(folder)) == ((32, 32, 3), 10)
    with pytest.raises(data.NotPreparedError, match=r"tfds.builder\('cifar10'"):
        data.open_dataset("cifar10", data_dir=str(folder))


def test_missing_files_name_both_ways_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(idx.find_files, "__defaults__", ({},))
    (tmp_path / FILES[0]).write_bytes(b"")  # one of four
    with pytest.raises(data.NotPreparedError) as refusal:
        data.open_dataset("fashion_mnist", data_dir=str(tmp_path))
    message = str(refusal.value)
    assert "apt-get install dataset-fashion-mnist" in message
    assert "name their folder by dataset.data_dir" in message
    assert f"tfds.builder('fashion_mnist', data_dir='{tmp_path}'" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("number", "raw", "message"),
    [
        (0, written(arrays()[0])[:-1], r"says shape \(12, 5, 4\), which is 240 bytes, and holds 239"),
        (1, written(arrays()[0]), r"begins with bytes \[0, 0, 8, 3\].*begins with \[0, 0, 8, 1\]"),
        (1, b"", r"begins with bytes \[\]"),
        (1, written(np.zeros(5)), "holds 12 images and .* 5 labels"),
        (3, written(np.full(TEST, 3)), r"labels to 3, the training files \(5, 4\) and 2"),
        (2, written(np.zeros((TEST, 4, 4))), r"images of shape \(4, 4\)"),
    ],
)
def test_a_damaged_or_mixed_set_names_the_file(tmp_path, number, raw, message):
    write_set(tmp_path, packed=("", ""))
    (tmp_path / FILES[number]).write_bytes(raw)
    with pytest.raises(ValueError, match=message) as refusal:
        data.load("mnist", data_dir=str(tmp_path))
    assert str(tmp_path) in str(refusal.value)


def test_a_broken_archive_names_the_file(tmp_path):
    write_set(tmp_path)
    file = tmp_path / f"{FILES[0]}.gz"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz can't be read .*download it again"):
        data.load("mnist", data_dir=str(tmp_path))


@pytest.mark.skipif(
    idx.find_files("fashion_mnist", None) is None, reason="Debian's dataset-fashion-mnist is not installed"
)
def test_debians_fashion_mnist_is_the_published_set():
    loaded = data.load("fashion_mnist")
    assert (loaded.train_size, loaded.test_size, loaded.input_shape) == (60_000, 10_000, (28, 28, 1))
    assert np.bincount(loaded.train.labels).tolist() == [6_000] * 10
    assert np.bincount(loaded.test.labels).tolist() == [1_000] * 10
    pixels = loaded.train.images.astype(np.float64) / 255
    np.testing.assert_allclose((pixels.mean(), pixels.std()), (0.2860, 0.3530), atol=5e-5)
