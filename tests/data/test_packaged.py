import subprocess
import sys

import numpy as np
import pytest

from prune_jax import data
from prune_jax.data import packaged, turns


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.mark.parametrize(
    ("name", "shape", "train", "test"),
    [
        ("digits", (8, 8, 1), 1297, 500),
        pytest.param("mnist5k", (28, 28, 1), 4000, 1000, marks=pytest.mark.slow),
    ],
)
def test_packaged_set_through_tfds_holds_every_source_image_once(folder, name, shape, train, test):
    loaded = data.load(name, data_dir=folder)
    assert loaded.input_shape == shape
    assert loaded.num_classes == 10
    assert loaded.train.images.dtype == np.uint8
    assert (len(loaded.train.labels), len(loaded.test.labels)) == (train, test)
    assert np.bincount(loaded.test.labels).tolist() == [test // 10] * 10
    source, labels = {"digits": packaged.read_digits, "mnist5k": packaged.read_mnist5k}[name]()
    both = np.concatenate([loaded.train.images, loaded.test.images]).reshape(train + test, -1)
    seen = np.column_stack([both, np.concatenate([loaded.train.labels, loaded.test.labels])])
    wanted = np.column_stack([source.reshape(train + test, -1), labels])
    assert sorted(map(bytes, seen.astype(np.int64))) == sorted(map(bytes, wanted.astype(np.int64)))


def test_split_seed_changes_the_split_and_the_folder(folder):
    first, second = (data.load("digits", data_dir=folder, split_seed=seed) for seed in (0, 1))
    again = data.load("digits", data_dir=folder, split_seed=0)
    assert not np.array_equal(first.test.images, second.test.images)
    assert np.array_equal(first.test.images, again.test.images)


def test_stratified_split_by_hand():
    train, test = packaged.stratified_split(np.array([0, 0, 0, 1, 1, 1, 1]), 1, seed=0)
    assert sorted([*train, *test]) == list(range(7))
    assert sorted(np.array([0, 0, 0, 1, 1, 1, 1])[test]) == [0, 1]
    with pytest.raises(ValueError, match="class 0 has 3 examples"):
        packaged.stratified_split(np.array([0, 0, 0, 1, 1, 1, 1]), 3, seed=0)


def test_unknown_name_gives_the_nearest(folder):
    with pytest.raises(ValueError, match=r"unknown data set 'minst5k'; did you mean .*'mnist5k'"):
        data.load("minst5k", data_dir=folder)


def test_unprepared_set_says_the_command(folder):
    with pytest.raises(data.NotPreparedError, match=r"tfds.builder\('cifar10'.*download_and_prepare"):
        data.load("cifar10", data_dir=folder)


def test_too_large_a_set_is_refused(folder):
    with pytest.raises(ValueError, match="more than the allowed 1e-06 GiB"):
        data.load("digits", data_dir=folder, max_gib=1e-6)


@pytest.mark.slow
def test_processes_that_start_at_once_make_a_set_once(tmp_path):
    program = (
        "import sys; from prune_jax import data; print(data.load('digits', data_dir=sys.argv[1]).train_size)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    started = [subprocess.Popen(command, text=True, stdout=subprocess.PIPE) for _ in range(3)]
    found = [process.communicate(timeout=120)[0] for process in started]
    assert found == ["1297\n"] * 3
    assert not list(tmp_path.glob(".*"))  # the lease is gone


def test_a_maker_that_died_over_its_lease_is_waited_for_and_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "LEASE_SECONDS", 0.1)
    (tmp_path / ".digits.preparing").touch()
    assert data.load("digits", data_dir=str(tmp_path)).train_size == 1297
    assert not list(tmp_path.glob(".*"))
