"""Streams of the fake ImageNet: order, sharding, resuming, evaluation, and what is refused."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from fake_imagenet import FakeImagenet, fake_jpeg
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from prune_jax import data

RECIPE = dataclasses.replace(data.IMAGENET_RECIPE, size=24, resize=32)


@pytest.fixture(scope="module")
def imagenet(imagenet_dir):
    return data.open_dataset("imagenet2012", data_dir=imagenet_dir, recipe=RECIPE)


def open_train(dataset, **changes):
    settings = {"batch_size": 48, "seed": 5, "train": True, "recipe": RECIPE} | changes
    return data.open_stream(dataset, **settings)


def take(stream, count):
    batches = [next(stream) for _ in range(count)]
    stream.close()
    return batches


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        for array, wanted in zip(batch, other, strict=True):
            assert array.dtype == wanted.dtype
            np.testing.assert_array_equal(array, wanted)


def test_batches_are_uint8_images_and_int32_labels(imagenet):
    assert (imagenet.train_size, imagenet.test_size, imagenet.num_classes) == (400, 100, 1000)
    assert imagenet.input_shape == (24, 24, 3)
    stream = open_train(imagenet)
    assert stream.steps_per_epoch == 400 // 48
    ((images, labels),) = take(stream, 1)
    assert (images.shape, images.dtype) == ((48, 24, 24, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((48,), np.int32)
    assert set(labels.tolist()) <= set(FakeImagenet.classes)


def test_an_epoch_visits_no_example_twice_and_the_next_one_in_another_order(digits):
    stream = open_train(digits, batch_size=100, recipe=None)
    assert stream.steps_per_epoch == 12
    first, second = (np.concatenate([next(stream)[0] for _ in range(12)]) for _ in range(2))
    stream.close()
    everything = {image.tobytes() for image in digits_whole(digits)}
    for epoch in (first, second):
        seen = [image.tobytes() for image in epoch]
        assert len(set(seen)) == 1200
        assert set(seen) <= everything
    assert not np.array_equal(first, second)


def test_process_parts_are_the_rows_of_the_unsharded_batch(imagenet):
    whole = take(open_train(imagenet), 10)  # over the end of the first epoch
    parts = [take(open_train(imagenet, process_index=i, process_count=4), 10) for i in range(4)]
    joined = [
        tuple(np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        for batches in zip(*parts, strict=True)
    ]
    assert_same(joined, whole)


def test_a_stream_opened_or_restored_at_a_step_goes_on_bit_for_bit(imagenet):
    stream = open_train(imagenet)
    for _ in range(7):
        next(stream)
    state = json.loads(json.dumps(stream.state()))
    rest = take(stream, 4)
    assert_same(take(open_train(imagenet, start_step=7), 4), rest)
    other = open_train(imagenet)
    next(other)
    other.restore(state)
    assert other.step == 7
    assert_same(take(other, 4), rest)


def test_seed_changes_order_and_crops(imagenet):
    (first,), (second,) = take(open_train(imagenet), 1), take(open_train(imagenet, seed=6), 1)
    assert not np.array_equal(first[1], second[1])


def test_an_example_is_cropped_anew_every_epoch(imagenet):
    one = imagenet._replace(train=dataclasses.replace(imagenet.train, records=[3]))
    (first, _), (second, _) = take(open_train(one, batch_size=1), 2)
    assert not np.array_equal(first, second)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_change_nothing(imagenet, workers):
    assert_same(
        take(open_train(imagenet, start_step=3, workers=workers), 6), take(open_train(imagenet), 9)[3:]
    )
    evaluation = {"batch_size": 30, "seed": 0, "train": False, "recipe": RECIPE}  # four batches
    read = data.open_stream(imagenet, **evaluation, workers=workers)
    assert_same(list(read), list(data.open_stream(imagenet, **evaluation)))
    read.close()


@pytest.mark.slow
def test_a_worker_passes_its_error_on(imagenet):
    """What is damaged is named alike, whoever reads it."""
    names = [*imagenet.train.records[:-1], 10**6]
    broken = imagenet._replace(train=dataclasses.replace(imagenet.train, records=names))
    for workers in (0, 1):
        stream = open_train(broken, batch_size=400, workers=workers)
        with pytest.raises(ValueError, match="imagenet2012/train: records 0 to 1000000 can't be read"):
            next(stream)
        stream.close()


@pytest.mark.slow
def test_workers_end_with_a_trainer_that_was_killed(imagenet_dir):
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("killed_trainer.py"), imagenet_dir],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (worker,) = (int(pid) for pid in done.stdout.split())
    deadline = time.monotonic() + 60
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()


def test_evaluation_visits_every_example_once_and_weighs_the_filling_nothing(imagenet):
    batches = list(data.open_stream(imagenet, batch_size=32, seed=0, train=False, recipe=RECIPE))
    assert [len(images) for images, _, _ in batches] == [32] * 4
    labels, weights = (np.concatenate([batch[i] for batch in batches]) for i in (1, 2))
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, np.arange(128) < 100)
    assert sorted(labels[:100]) == sorted(FakeImagenet.classes)
    assert not batches[-1][0][4:].any()
    parts = [
        list(
            data.open_stream(
                imagenet, batch_size=32, seed=9, train=False, recipe=RECIPE, process_index=i, process_count=8
            )
        )
        for i in range(8)
    ]  # in the last batch all but the first process have only filling
    joined = [tuple(map(np.concatenate, zip(*group, strict=True))) for group in zip(*parts, strict=True)]
    assert_same(joined, batches)


def test_an_evaluation_starts_no_more_processes_than_it_has_batches(imagenet, monkeypatch):
    asked = []

    def options(number, ahead):
        asked.append(number)
        raise KeyboardInterrupt  # before any is started

    monkeypatch.setattr(data.stream.grain, "MultiprocessingOptions", options)
    for train in (False, True):
        with pytest.raises(KeyboardInterrupt):
            data.open_stream(imagenet, batch_size=50, seed=0, train=train, recipe=RECIPE, workers=7)
    assert asked == [2, 7]


def test_evaluation_images_are_the_source_through_the_recipe(imagenet):
    stream = data.open_stream(imagenet, batch_size=100, seed=0, train=False, recipe=RECIPE)
    ((images, labels, _),) = list(stream)
    made = {}
    for i in range(100):
        label = FakeImagenet.classes[i]
        picture = data.images.decode(fake_jpeg(label, seed=(False, i)), 3)
        made[label] = data.images.eval_image(picture, RECIPE)
    for image, label in zip(images, labels.tolist(), strict=True):
        np.testing.assert_array_equal(image, made[label])


def test_prefetch_lays_the_batch_out_over_a_mesh(imagenet):
    mesh = Mesh(np.array(jax.devices()), ("data",))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    on_device = list(
        data.prefetch_to_device(
            data.open_stream(imagenet, batch_size=40, seed=0, train=False, recipe=RECIPE), sharding
        )
    )
    on_host = list(data.open_stream(imagenet, batch_size=40, seed=0, train=False, recipe=RECIPE))
    assert all(array.sharding == sharding for batch in on_device for array in batch)
    assert_same([tuple(map(np.asarray, batch)) for batch in on_device], on_host)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "optimizer.batch_size is 0; imagenet2012/train allows 1 to 400"),
        ({"batch_size": 401}, "optimizer.batch_size is 401; imagenet2012/train allows 1 to 400"),
        ({"process_count": 7}, "batch_size is 48, which 7 processes don't divide; .* such as 49"),
        ({"process_index": 2, "process_count": 2}, "process_index 2 of 2"),
        ({"workers": -1}, "dataset.workers is -1; allowed"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(imagenet, changes, message):
    with pytest.raises(ValueError, match=message):
        open_train(imagenet, **changes)


def test_another_streams_state_is_refused(imagenet):
    stream = open_train(imagenet)
    state = open_train(imagenet, batch_size=40).state()
    with pytest.raises(ValueError, match=r"differs in batch_size \(40, here 48\)"):
        stream.restore(state)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return data.open_dataset("digits", data_dir=str(tmp_path_factory.mktemp("tfds")), stream=True)


def digits_whole(streamed):
    return np.stack([example["image"] for example in streamed.train.source])
