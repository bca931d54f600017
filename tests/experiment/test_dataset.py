"""The dataset section of a config: what it opens, and what of it a spec states."""

import dataclasses
import json

import pytest
from fake_imagenet import write_fake_imagenet

from prune_jax import data, fairness
from prune_jax.experiment import specs
from prune_jax.experiment.config import dataset as config_dataset
from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.protocols.recipes import imagenet
from prune_jax.experiment.training import inputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def imagenet_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("imagenet"))
    write_fake_imagenet(folder)
    return folder


def config_of(folder, **changes):
    config = default_config()
    config.dataset.name = "digits"
    config.dataset.data_dir = folder
    with config.unlocked():
        for key, value in changes.items():
            config.dataset[key] = value
    return config


@pytest.mark.parametrize(
    ("changes", "streamed"),
    [
        ({}, False),
        ({"fits_gib": 1e-6}, True),
        ({"fits_gib": 1e-6, "stream": "False"}, False),
        ({"stream": "True"}, True),
    ],
)
def test_what_fits_stays_whole_and_the_rest_streams(folder, changes, streamed):
    config = config_of(folder, **changes)
    dataset = config_dataset.open_dataset(config)
    assert isinstance(dataset, data.StreamedDataset) == streamed
    assert (dataset.train_size, dataset.test_size, dataset.input_shape) == (1297, 500, (8, 8, 1))
    assert config_dataset.spec_of(config, dataset).streamed == streamed


def test_a_set_that_fits_states_what_it_always_stated(folder):
    config = config_of(folder)
    spec = config_dataset.spec_of(config, config_dataset.open_dataset(config))
    assert specs.stated(spec) == {"name": "digits", "mean": (0.3055,), "std": (0.3759,)}


def test_the_recipe_is_stated_in_numbers_and_flips_once(imagenet_dir):
    config = config_of(imagenet_dir, name="imagenet100", size=8, resize=12, scale=(0.5, 1), flip=True)
    dataset = config_dataset.open_dataset(config)
    assert (dataset.input_shape, dataset.num_classes) == ((8, 8, 3), 100)
    spec = config_dataset.spec_of(config, dataset)
    assert spec.streamed
    assert spec.classes == dataset.classes
    stated = json.loads(json.dumps(specs.stated(spec)))
    recipe = {"size": 8, "scale": [0.5, 1.0], "ratio": [3 / 4, 4 / 3], "resize": 12, "flip": True}
    assert stated["recipe"] == recipe
    assert "flip" not in stated
    assert config_dataset.augmentation_of(spec) == ("resized-crop8", "scale0.5-1", "flip")
    usual = dataclasses.replace(spec.recipe, scale=data.IMAGENET_RECIPE.scale)
    assert config_dataset.augmentation_of(dataclasses.replace(spec, recipe=usual)) == (
        "resized-crop8",
        "flip",
    )
    assert config_dataset.augmentation_of(specs.DataSpec("made up", (), (), crop_pad=4)) == ("crop4",)


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"classes_seed": 1}, "classes"), ({"size": 16}, "size"), ({"mean": (0.5,) * 3}, "mean")],
)
def test_other_images_of_one_data_set_are_another_to_a_comparison(imagenet_dir, changes, word):
    """What a spec states is what a comparison reads, under the same names."""
    records = []
    for each in ({}, changes):
        config = config_of(imagenet_dir, name="imagenet100", **({"size": 8, "resize": 20} | each))
        spec = config_dataset.spec_of(config, config_dataset.open_dataset(config))
        stage = fairness.Stage("scratch", None, 9, "0:0.1", spec={"data": specs.stated(spec)})
        costs = fairness.Costs(speedup=2.0)
        records.append(fairness.RunRecord("a", "imagenet100/split0", "n", costs=costs, stages=(stage,)))
    verdict = fairness.strictest_setup(*records)
    assert not verdict.holds("SX-A")
    assert verdict.explain("S1").startswith(f"S1 doesn't hold (dataset imagenet100/split0 ({word} ")
    assert fairness.strictest_setup(records[0], records[0]).holds("SX-A")


def test_readers_are_chosen_from_the_cpus(folder, monkeypatch):
    monkeypatch.setattr(data.workers, "available_cpus", lambda: 6)
    config = config_of(folder, stream="True")
    dataset = config_dataset.open_dataset(config)
    spec = config_dataset.spec_of(config, dataset)
    assert inputs.on_stream(dataset, spec, config.dataset.workers, 0).workers == 5
    assert inputs.on_stream(dataset, spec, (0, 2), 0).workers == 2
    assert inputs.on_stream(dataset, spec, 9, 0).workers == 9


def test_imagenets_config_is_pytorchs_example(imagenet_dir):
    config = imagenet("x", "imagenet2012", "resnet34")
    config.dataset.data_dir = imagenet_dir
    assert config_dataset.spec_of(config, config_dataset.open_dataset(config)).recipe == data.IMAGENET_RECIPE


def test_images_of_one_size_are_left_alone_whatever_the_recipe_says(folder):
    config = imagenet("x", "digits", "mlp7_relu")
    config.dataset.data_dir, config.dataset.size = folder, 5
    dataset = config_dataset.open_dataset(config)
    assert dataset.input_shape == (8, 8, 1)
    assert config_dataset.spec_of(config, dataset).recipe is None


def test_synthetic_images_state_their_number(folder):
    config = config_of(folder, name="synthetic")
    config.dataset.synthetic = {"shape": (6, 5, 3), "classes": 7, "examples": 11}
    dataset = config_dataset.open_dataset(config)
    assert dataset.train.images.shape == dataset.test.images.shape == (11, 6, 5, 3)
    assert dataset.train.labels.max() < 7
    spec = config_dataset.spec_of(config, dataset)
    assert (spec.examples, spec.mean, spec.std) == (11, (0.5,) * 3, (0.2887,) * 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": -1}, "dataset.workers is -1; allowed: a number of processes"),
        ({"stream": "maybe"}, "dataset.stream is 'maybe'; allowed: 'auto', 'True', 'False'"),
        ({"classes_file": "ids.txt"}, "dataset.classes_file is for dataset.name='imagenet100', not 'digits'"),
        ({"name": "imagenet10"}, "unknown data set 'imagenet10'; did you mean 'imagenet100'"),
        ({"name": "synthetic", "stream": "True"}, "'synthetic' lives on the device"),
        ({"name": "synthetic", "synthetic": {"shape": (3, 3)}}, r"shape \(3, 3\), classes 1000"),
    ],
)
def test_values_that_do_not_fit_are_refused(folder, changes, message):
    config = config_of(folder, **changes)
    with pytest.raises(ValueError, match=message):
        config_dataset.spec_of(config, config_dataset.open_dataset(config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stream": "False"}, "dataset.stream is False and dataset.size 224"),
        ({"size": 0}, r"varying size .* --config.dataset.size=224"),
        ({"size": 8, "resize": 7}, "dataset.size is 8 and dataset.resize 7"),
        ({"scale": (0.0, 1.0)}, r"dataset.scale is \(0.0, 1.0\)"),
        ({"scale": (0.5, 1.5)}, r"dataset.scale is \(0.5, 1.5\); it needs 0 < low <= high <= 1"),
        ({"ratio": (1.0,)}, r"dataset.ratio is \(1.0,\); it needs two numbers"),
        ({"crop_pad": 1}, "dataset.crop_pad is 1, but imagenet2012's images vary in size"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(imagenet_dir, changes, message):
    config = config_of(imagenet_dir, name="imagenet2012", **changes)
    with pytest.raises(ValueError, match=message):
        config_dataset.spec_of(config, config_dataset.open_dataset(config))


def test_a_part_of_the_training_split_is_stated_and_refused_where_it_is_too_large(folder):
    config = config_of(folder, train_examples=200)
    dataset = config_dataset.open_dataset(config)
    assert dataset.train_size == 200
    spec = config_dataset.spec_of(config, dataset)
    assert specs.stated(spec)["train_examples"] == 200
    assert config_dataset.dataset_name(spec) == "digits/split0/train200"
    with pytest.raises(ValueError, match=r"dataset.train_examples is 5000; allowed: 0 for all"):
        config_dataset.open_dataset(config_of(folder, train_examples=5000))
