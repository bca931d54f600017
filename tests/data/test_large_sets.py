"""Names whose images don't fit into memory, and the shape of a set without reading it."""

import pytest

from prune_jax import data


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
    assert data.input_of(name, data_dir=str(tmp_path)) == (shape, classes)
    assert not list(tmp_path.iterdir())


def test_images_of_varying_size_are_refused():
    with pytest.raises(ValueError, match=r"'caltech101' has images of varying size \(None, None, 3\)"):
        data.input_of("caltech101")


@pytest.mark.parametrize("name", ["imagenet2012", "imagenet100"])
def test_what_only_streams_says_why_and_the_way_out(name, tmp_path):
    with pytest.raises(data.NotPreparedError) as refusal:
        data.load(name, data_dir=str(tmp_path))
    message = str(refusal.value)
    assert message.startswith(f"dataset.name: '{name}'")
    assert "doesn't fit into memory" in message
    assert "--config.dataset.name=mnist5k --config.model.name=resnet8" in message
    assert f"ILSVRC2012_img_val.tar into {tmp_path}/downloads/manual" in message
    assert f"tfds.builder('imagenet2012', data_dir='{tmp_path}', file_format='array_record')" in message
    assert not list(tmp_path.iterdir())


def test_what_is_not_prepared_names_the_command(tmp_path):
    with pytest.raises(data.NotPreparedError, match=r"tfds.builder\('cifar10', data_dir="):
        data.load("cifar10", data_dir=str(tmp_path))
