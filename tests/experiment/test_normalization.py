"""Data statistics: the usual ones by name, what is given instead, what is refused."""

import pytest

from prune_jax import data
from prune_jax.data import packaged
from prune_jax.experiment.config.normalization import USUAL, per_channel


def test_empty_means_the_usual_ones():
    assert per_channel("mean", (), "mnist5k", 1) == (0.1307,)
    assert per_channel("std", (), "cifar10", 3) == (0.229, 0.224, 0.225)


def test_what_is_given_is_kept():
    assert per_channel("mean", (1, 2), "digits", 2) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("key", "given", "name", "channels", "message"),
    [
        ("mean", (0.1, 0.2), "digits", 1, r"dataset.mean is \(0.1, 0.2\); digits needs 1 values$"),
        ("std", (0.0,), "digits", 1, r"dataset.std is \(0.0,\); digits needs 1 values, all positive"),
        ("mean", (), "svhn_cropped", 3, r"dataset.mean is empty and svhn_cropped .*'\(0.5,0.5,0.5,\)'"),
    ],
)
def test_bad_statistics_are_named(key, given, name, channels, message):
    with pytest.raises(ValueError, match=message):
        per_channel(key, given, name, channels)


@pytest.mark.parametrize("name", sorted(USUAL))
def test_usual_statistics_fit_the_channels(name):
    channels = data.input_of(name, size=224)[0][-1]
    assert [len(per_channel(key, (), name, channels)) for key in ("mean", "std")] == [channels, channels]


def test_the_digits_are_as_measured():
    images, labels = packaged.read_digits()
    train, _ = packaged.stratified_split(labels, 50, seed=0)
    images = images[train] / 255.0
    mean, std = USUAL["digits"]
    assert abs(images.mean() - mean[0]) < 1e-3
    assert abs(images.std() - std[0]) < 1e-3
