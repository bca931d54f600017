"""Where the labels of ImageNet's records are kept, and who reads them."""

import errno
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from prune_jax.data import labels
from prune_jax.data.turns import turn


@pytest.fixture
def builder(imagenet_dir, tmp_path, monkeypatch):
    """A copy of the fake ImageNet, and a cache folder of this test alone."""
    shutil.copytree(imagenet_dir, tmp_path / "imagenet", ignore=shutil.ignore_patterns("labels-*"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tfds.builder("imagenet2012", data_dir=str(tmp_path / "imagenet"))


@pytest.fixture
def wanted(builder):
    return [example["label"] for example in builder.as_data_source(split="train")]


def write_protected(monkeypatch, *folders):
    """Files can't be opened for writing under ``folders``, as on a file system that is mounted read-only."""
    before = os.open

    def refuse(path, flags, *more, **named):
        under = any(Path(os.fsdecode(path)).is_relative_to(folder) for folder in folders)
        if under and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return before(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refuse)


def never_read(builder, monkeypatch):
    def read(**_):
        raise AssertionError("the records are read again")

    monkeypatch.setattr(builder, "as_data_source", read)


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_they_are_kept_beside_the_records(builder, wanted, tmp_path, monkeypatch):
    np.testing.assert_array_equal(labels.list_labels(builder, "train"), wanted)
    never_read(builder, monkeypatch)
    np.testing.assert_array_equal(labels.list_labels(builder, "train"), wanted)
    assert Path(builder.data_dir, "labels-train.npy").exists()
    assert not (tmp_path / "cache").exists()


def test_of_a_read_only_data_set_they_are_kept_in_the_users_cache(builder, wanted, tmp_path, monkeypatch):
    before = files(tmp_path / "imagenet")
    write_protected(monkeypatch, tmp_path / "imagenet")
    np.testing.assert_array_equal(labels.list_labels(builder, "train"), wanted)
    assert files(tmp_path / "imagenet") == before
    (kept,) = files(tmp_path / "cache")  # and neither a lease nor half a file
    assert kept.startswith("labels-imagenet2012-train-")
    never_read(builder, monkeypatch)
    np.testing.assert_array_equal(labels.list_labels(builder, "train"), wanted)


def test_cached_labels_are_those_of_the_records_as_they_are_now(builder, tmp_path):
    first, second = (labels.label_files(builder, split)[1] for split in ("train", "validation"))
    assert first != second
    shard = next(Path(builder.data_dir).glob("*-train.array_record*"))
    os.utime(shard, ns=(1, 1))
    assert labels.label_files(builder, "train")[1] != first
    assert labels.label_files(builder, "validation")[1] == second
    assert first.parent == tmp_path / "cache" / "prune_jax"
    assert labels.label_files(builder, "train", {})[1].parent == Path.home() / ".cache" / "prune_jax"


def test_where_nothing_can_be_written_they_are_read_each_time(builder, wanted, tmp_path, monkeypatch, capsys):
    write_protected(monkeypatch, tmp_path)
    monkeypatch.setattr(labels, "SILENT", 399)  # of 400 examples
    for _ in range(2):
        np.testing.assert_array_equal(labels.list_labels(builder, "train"), wanted)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("reading all 400 records of imagenet2012/train for their labels")
        assert "again at every start, for neither" in line
    assert "labels-train.npy nor " in line


def test_a_long_reading_says_where_it_will_be_kept(builder, monkeypatch, capsys):
    monkeypatch.setattr(labels, "SILENT", 399)
    labels.list_labels(builder, "train")
    assert f"(kept in {builder.data_dir}/labels-train.npy)" in capsys.readouterr().err
    labels.list_labels(builder, "validation")  # of 100 examples
    assert capsys.readouterr().err == ""


def test_who_comes_while_another_reads_waits_for_its_file(builder, monkeypatch):
    never_read(builder, monkeypatch)
    file, found = labels.label_files(builder, "train")[0], []
    asking = threading.Thread(target=lambda: found.append(labels.list_labels(builder, "train")))
    with turn(file.with_suffix(".reading")):
        asking.start()
        asking.join(0.3)
        assert asking.is_alive()
        np.save(file, np.arange(400, dtype=np.int32))
    asking.join(60)
    np.testing.assert_array_equal(found, [np.arange(400)])
