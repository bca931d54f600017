"""Text as windows of bytes: by hand, split by file, hashed, and the same through TFDS and Grain."""

import hashlib

import grain
import numpy as np
import pytest

from prune_jax import data
from prune_jax.data import text


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "texts"
    (root / "deep").mkdir(parents=True)
    for number in range(10):
        (root / ("deep" if number % 2 else ".") / f"{number}.txt").write_bytes(
            bytes([97 + number] * 7 + [10])
        )
    return root


def load(folder, **how):
    return text.load_text("text_folder", data_dir=str(folder), **{"length": 3, **how})


def test_windows_by_hand():
    found = text.windows_of(b"abcdefghi", 3)
    assert [bytes(row) for row in found] == [b"abcd", b"defg"]  # 'hi' is no whole window
    assert text.windows_of(b"abc", 3).shape == (0, 4)
    assert text.windows_of(b"", 3).shape == (0, 4)


def test_files_are_held_out_whole(folder):
    found = load(folder)
    assert (found.train.images.shape, found.test.images.shape) == ((18, 3), (2, 3))
    assert (found.train.images.dtype, found.train.labels.dtype) == (np.uint8, np.int32)
    letters = [set(split.images.ravel().tolist()) for split in (found.train, found.test)]
    assert not letters[0] & letters[1]
    np.testing.assert_array_equal(found.train.images[:, 1:], found.train.labels[:, :-1])
    assert (found.num_classes, found.input_shape, found.train_size, found.test_size) == (256, (3,), 18, 2)


def test_the_seed_chooses_the_files_and_the_windows(folder):
    tests = {bytes(load(folder, split_seed=seed).test.images[0]) for seed in range(8)}
    assert len(tests) > 2
    few = load(folder, train_examples=5)
    assert few.train.images.shape == (5, 3)
    np.testing.assert_array_equal(few.train.images, load(folder, train_examples=5).train.images)


def test_content_is_of_names_and_bytes(folder):
    before = load(folder).content
    assert before == load(folder, length=2).content
    (folder / "0.txt").write_bytes(b"another")
    assert load(folder).content != before
    files = {"train": {"a": b"xy"}, "test": {"b": b"z"}}
    assert text.content_of(files) == hashlib.sha256(b"train/a:2:xytest/b:1:z").hexdigest()


def test_the_standard_library_is_here_and_split_by_module():
    found = data.open_dataset("stdlib_text", window=64)
    assert found.input_shape == (64,)
    assert data.input_of("stdlib_text", window=64) == ((64,), 256)
    assert found.train_size * 64 > 2_000_000 > found.test_size * 64 > 50_000
    assert not set(text.TRAIN_MODULES) & set(text.TEST_MODULES)
    assert len(found.content) == 64


def test_what_tfds_prepares_is_streamed_by_grain(folder, tmp_path):
    builder = text.text_builder("text_folder", length=3, data_dir=str(tmp_path / "tfds"), folder=str(folder))
    builder.download_and_prepare()
    source = builder.as_data_source(split="train")
    rows = np.stack([each["tokens"] for each in grain.MapDataset.source(source).seed(0).shuffle()])
    whole = load(folder)
    wanted = np.concatenate((whole.train.images, whole.train.labels[:, -1:]), 1)
    assert sorted(map(bytes, rows)) == sorted(map(bytes, wanted.astype(np.uint8)))
    assert builder.builder_config.name.endswith(whole.content[:16])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"length": 8}, "dataset.window is 8, but the longest train file .* has 8 bytes.*allowed: 1 to 7"),
        ({"length": 0}, "dataset.window is 0; it must be at least 1"),
        ({"train_examples": 99}, "train_examples is 99; allowed: 0 for all, or 1 to 18"),
    ],
)
def test_text_that_is_too_short_is_refused(folder, how, message):
    with pytest.raises(ValueError, match=message):
        load(folder, **how)


def test_no_folder_and_one_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'text_folder' reads the files of a folder; name one"):
        load(tmp_path / "nowhere")
    (tmp_path / "one.txt").write_text("alone")
    with pytest.raises(ValueError, match="holds 1 files; a split by file needs at least 2"):
        load(tmp_path)
    with pytest.raises(ValueError, match="is no text; allowed: stdlib_text, text_folder"):
        text.read_files("digits", None)
