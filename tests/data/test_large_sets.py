"""Names whose images vary in size or don't fit: their shape without files, and what says how to prepare them."""

import importlib.util
import json
from pathlib import Path

import pytest

from prune_jax import data

RECIPE = data.IMAGENET_RECIPE


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("digits", (8, 8, 1), 10),
        ("mnist5k", (28, 28, 1), 10),
        ("cifar100", (32, 32, 3), 100),
        ("imagenet2012", (224, 224, 3), 1000),
        ("imagenet100", (224, 224, 3), 100),
    ],
)
def test_shapes_are_known_without_files(name, shape, classes, tmp_path):
    assert data.input_of(name, data_dir=str(tmp_path), size=224) == (shape, classes)
    assert not list(tmp_path.iterdir())


def test_images_of_varying_size_are_refused():
    with pytest.raises(ValueError, match=r"'caltech101' has images of varying size \(None, None, 3\)"):
        data.input_of("caltech101")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "imdb_reviews",
            r"'imdb_reviews' has no feature 'image' \(height, width, channels\), which .*label \(ClassL",
        ),
        (
            "lfw",
            r"'lfw' has no feature 'label' \(one class\), which .*; it has image \(Image\), label \(Text\)",
        ),
        ("squad", r"no feature 'image' .* and no 'label' .*; it has answers"),
        ("bair_robot_pushing_small", "no feature 'image' .* and no 'label' .*; it has Sequence"),
        ("kddcup99", "; it has .* and more$"),
    ],
)
def test_what_is_no_labelled_image_names_the_missing_feature(name, message, tmp_path):
    for read in (data.input_of, data.open_dataset, data.load, data.varies):
        with pytest.raises(ValueError, match=message):
            read(name, data_dir=str(tmp_path))


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed")
def test_what_only_tensorflow_opens_says_how_to_install_it(tmp_path, capfd):
    for read in (data.input_of, data.open_dataset):
        with pytest.raises(
            ValueError, match=r"can't open 'coco' .*\(No module named .*pip install '.\[prepare\]'"
        ):
            read("coco", data_dir=str(tmp_path))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["imagenet2012", "imagenet100"])
def test_imagenet_not_prepared_says_where_the_archives_go_and_the_command(name, tmp_path):
    with pytest.raises(data.NotPreparedError) as refusal:
        data.open_dataset(name, data_dir=str(tmp_path), recipe=RECIPE)
    message = str(refusal.value)
    assert message.startswith(f"dataset.name: data set '{name}'")
    assert "pip install '.[prepare]'" in message
    assert f"ILSVRC2012_img_val.tar into {tmp_path}/downloads/manual" in message
    assert f"tfds.builder('imagenet2012', data_dir='{tmp_path}', file_format='array_record')" in message
    assert not list(tmp_path.iterdir())


def test_what_is_not_prepared_names_the_command(tmp_path):
    for read in (data.load, data.open_dataset):
        with pytest.raises(data.NotPreparedError, match=r"tfds.builder\('cifar10', data_dir="):
            read("cifar10", data_dir=str(tmp_path))


def test_imagenet_without_a_size_names_the_recipe(imagenet_dir):
    for read in (data.load, data.open_dataset):
        with pytest.raises(ValueError, match=r"varying size .* --config.dataset.size=224"):
            read("imagenet2012", data_dir=imagenet_dir)


def test_prepared_as_tfrecord_says_how_to_convert(imagenet_dir, tmp_path):
    there = Path(imagenet_dir, "imagenet2012", "5.1.0")
    here = tmp_path / "imagenet2012" / "5.1.0"
    here.mkdir(parents=True)
    for file in there.iterdir():
        if "array_record" not in file.name:
            (here / file.name).write_bytes(file.read_bytes())
        else:
            (here / file.name.replace("array_record", "tfrecord")).touch()
    info = json.loads((there / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    for split in info["splits"]:
        split["filepathTemplate"] = split["filepathTemplate"].replace("array_record", "tfrecord")
    (here / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(data.NotPreparedError, match=r"as tfrecord, .*--dataset_version_dir=\S+/5.1.0 "):
        data.open_dataset("imagenet2012", data_dir=str(tmp_path), recipe=RECIPE)
