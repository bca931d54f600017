"""ImageNet100's classes, a damaged record, and TFDS's own reading of the fake ImageNet."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from fake_imagenet import FakeImagenet

from prune_jax import data
from prune_jax.data import imagenet

RECIPE = dataclasses.replace(data.IMAGENET_RECIPE, size=16, resize=20)
NAMES = tuple(f"n{i:08d}" for i in range(1000))


def open_100(folder, **changes):
    return data.open_dataset("imagenet100", data_dir=folder, recipe=RECIPE, **changes)


def test_tfds_reads_the_fake_one_as_the_real_one(imagenet_dir):
    builder = tfds.builder("imagenet2012", data_dir=imagenet_dir)
    assert type(builder).__module__.startswith("tensorflow_datasets")
    assert builder.is_prepared()
    example = builder.as_data_source(split="validation")[0]
    assert example["image"].dtype == np.uint8
    assert example["image"].ndim == 3
    assert builder.info.features["label"].int2str(int(example["label"])) in example["file_name"].decode()


def test_drawn_classes_depend_on_the_seed_alone():
    first, second = (imagenet.draw_classes(1000, 100, seed) for seed in (0, 1))
    assert first == imagenet.draw_classes(1000, 100, 0) != second
    assert len(set(first)) == 100
    assert list(first) == sorted(first)
    assert 0 <= first[0] <= first[-1] < 1000
    # Uniform: over many seeds every class is drawn about as often as any other.
    counts = np.bincount(np.concatenate([imagenet.draw_classes(20, 5, seed) for seed in range(2000)]))
    assert np.abs(counts - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


def test_a_file_names_classes_by_number_or_wordnet_id(tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text("# mine\nn00000007\n3\n\n  999  # the last\n")
    assert imagenet.read_classes(file, 3, NAMES) == (3, 7, 999)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["3", "1000"], "line 2: class '1000' is unknown; allowed: 0 to 999"),
        (["n00000O07"], "line 1: class 'n00000O07' is unknown; .*did you mean 'n0000"),
        (["3", "4", "n00000003"], "line 3: class 'n00000003' was on line 1 already"),
        (["3"], "lists 1 classes; 2 are needed"),
        ([], "lists 0 classes; 2 are needed"),
    ],
)
def test_bad_class_files_name_the_line(tmp_path, lines, message):
    file = tmp_path / "classes.txt"
    file.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        imagenet.read_classes(file, 2, NAMES)


def test_a_missing_class_file_is_named(imagenet_dir, tmp_path):
    with pytest.raises(ValueError, match=r"classes_file: .*none.txt can't be read"):
        open_100(imagenet_dir, classes_file=str(tmp_path / "none.txt"))


def test_imagenet100_is_the_examples_of_its_classes_renumbered(imagenet_dir, tmp_path):
    file = tmp_path / "classes.txt"
    chosen = (*range(0, 500, 10), *range(5, 505, 10))  # half of them have images in the fake one
    file.write_text("\n".join(map(str, reversed(chosen))))
    dataset = open_100(imagenet_dir, classes_file=str(file))
    assert dataset.classes == tuple(sorted(chosen))
    assert (dataset.num_classes, dataset.train_size, dataset.test_size) == (100, 200, 50)
    stream = data.open_stream(dataset, batch_size=50, seed=0, train=False, recipe=RECIPE)
    ((images, labels, _),) = list(stream)
    whole = data.open_dataset("imagenet2012", data_dir=imagenet_dir, recipe=RECIPE)
    everything = data.open_stream(whole, batch_size=100, seed=0, train=False, recipe=RECIPE)
    ((all_images, all_labels, _),) = list(everything)
    kept = np.isin(all_labels, chosen)
    np.testing.assert_array_equal(images, all_images[kept])
    np.testing.assert_array_equal(np.array(dataset.classes)[labels], all_labels[kept])


def test_a_draw_without_a_file(imagenet_dir):
    dataset = open_100(imagenet_dir, classes_seed=3)
    assert dataset.classes == imagenet.draw_classes(1000, 100, 3)
    assert dataset.train_size == 4 * len(set(dataset.classes) & set(FakeImagenet.classes))


def test_classes_without_images_are_refused(imagenet_dir, tmp_path):
    file = tmp_path / "classes.txt"
    ids = [i for i in range(1000) if i % 10][:100]
    file.write_text("\n".join(map(str, ids)))
    with pytest.raises(ValueError, match="imagenet2012/train holds no example of the 100 classes"):
        open_100(imagenet_dir, classes_file=str(file))


def test_kept_labels_that_are_damaged_are_read_anew(imagenet_dir, tmp_path):
    folder = tmp_path / "imagenet"
    shutil.copytree(imagenet_dir, folder)
    first = open_100(str(folder))
    kept = next(folder.rglob("labels-train.npy"))
    whole = kept.read_bytes()
    kept.write_bytes(whole[:100])
    again = open_100(str(folder))
    np.testing.assert_array_equal(first.train.records, again.train.records)
    assert kept.read_bytes() == whole


def test_a_damaged_image_names_its_record(imagenet_dir):
    dataset = data.open_dataset("imagenet2012", data_dir=imagenet_dir, recipe=RECIPE)
    source = [dict(example) for example in dataset.test.source]
    source[7]["image"] = bytes(source[7]["image"])[:200]
    name = source[7]["file_name"].decode()
    damaged = dataset._replace(test=dataclasses.replace(dataset.test, source=Listed(source)))
    stream = data.open_stream(damaged, batch_size=10, seed=0, train=False, recipe=RECIPE)
    with pytest.raises(ValueError, match=rf"imagenet2012/validation: record 7 \({name}\) holds 200 bytes"):
        list(stream)


def test_a_damaged_file_names_its_records(imagenet_dir, tmp_path):
    folder = tmp_path / "imagenet"
    shutil.copytree(imagenet_dir, folder)
    records = next(folder.rglob("*validation.array_record*"))
    content = bytearray(records.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    records.write_bytes(content)
    dataset = data.open_dataset("imagenet2012", data_dir=str(folder), recipe=RECIPE)
    stream = data.open_stream(dataset, batch_size=100, seed=0, train=False, recipe=RECIPE)
    with pytest.raises(ValueError, match="imagenet2012/validation: records 0 to 99 can't be read"):
        list(stream)


class Listed(list):
    """Random access as TFDS gives it, over examples in a list."""

    def __getitems__(self, keys):
        return [self[key] for key in keys]
