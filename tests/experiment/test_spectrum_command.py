import argparse
import json

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from fake_imagenet import write_fake_imagenet

from prune_jax import data, trainability
from prune_jax.data import images as data_images
from prune_jax.experiment import networks, specs, twins
from prune_jax.experiment.chain import restore, run
from prune_jax.experiment.commands import spectrum, spectrum_images, spectrum_text
from prune_jax.experiment.config import sweep
from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.progress import Progress
from prune_jax.experiment.storage import folder as storage_folder
from prune_jax.experiment.storage import stages as disk
from prune_jax.experiment.training import cohort, measure, trainer
from prune_jax.report.jacobian_figures import one_histogram


def arguments(*given):
    parser = argparse.ArgumentParser()
    spectrum.add_arguments(parser)
    return parser.parse_args(given)


def stage(root, name, finished=True):
    folder = root / "stages" / name
    folder.mkdir(parents=True)
    if finished:
        (folder / "stage.json").write_text("{}")


def test_a_stage_is_found_by_its_folder_or_the_first_digits_of_its_id(tmp_path):
    for name in ("abc1", "abd2"):
        stage(tmp_path, name)
    stage(tmp_path, "ffff", finished=False)
    for path in (tmp_path / "stages" / "abc1", tmp_path / "abc1", tmp_path / "stages" / "abc"):
        assert spectrum.find_stage(str(path)) == (tmp_path, "abc1")
    for name, message in (
        ("", "is a workdir; name a stage in it: 2 are finished, such as abc1, abd2"),
        ("zz", "no stage begins with 'zz'; 2 are finished"),
        ("ab", "several stages begin with 'ab': abc1, abd2"),
        ("ffff", "stage ffff is not finished"),
        ("deep/er/still", r"still is no stage: .*deep/er holds no folder 'stages'"),
    ):
        with pytest.raises(ValueError, match=message):
            spectrum.find_stage(str(tmp_path / name))


@pytest.mark.parametrize("flag", ["--examples=0", "--chunk=0", "--batch=-1"])
def test_numbers_below_1_are_one_line(flag, tmp_path, capsys):
    assert spectrum.run(arguments(f"--checkpoint={tmp_path}", flag), one_histogram) == 2
    assert capsys.readouterr().err == f"spectrum: {flag}: it must be at least 1\n"


def test_a_summary_counts_every_value_once_in_its_bin():
    rng = np.random.default_rng(0)
    values = -np.sort(-np.exp(2 * rng.normal(size=(40, 6))), axis=1)
    values[:5, -1] = 0.0
    summary = measure.summary(trainability.summarize(values, resolution=1e-9))
    counts, _ = np.histogram(values[values > 0], summary.edges())
    assert list(summary.counts) == counts.tolist()
    assert (summary.resolved, summary.unresolved, sum(summary.counts)) == (235, 5, 235)
    assert summary.mean == pytest.approx(values.mean(), rel=1e-12)
    assert summary.mean_error == pytest.approx(values.mean(1).std(ddof=1) / 40**0.5, rel=1e-12)
    smallest = [row[row > 0].min() for row in values]
    assert summary.minimum == pytest.approx(min(smallest), rel=1e-12)
    assert summary.condition == pytest.approx(np.mean(values[:, 0] / smallest), rel=1e-12)


def test_the_gaps_of_kernels_before_and_after_by_hand():
    rng = np.random.default_rng(0)
    dense = {"a": {"kernel": rng.normal(size=(6, 4)), "bias": rng.normal(size=4)}, "b": {"kernel": np.eye(4)}}
    cut = {"a": {"kernel": dense["a"]["kernel"][:, :2]}, "b": {"kernel": 3.0 * np.eye(4)[:2]}}
    lines = spectrum_text.weights_table({"dense": dense, "pruned": cut}, gain=2.0).splitlines()
    rows = {line.rsplit(maxsplit=2)[0].strip(): line.split()[-2:] for line in lines[:4]}
    assert rows["kernel"] == ["dense", "pruned"]
    wanted = [
        np.mean((np.linalg.svd(state["a"]["kernel"], compute_uv=False) / 2 - 1) ** 2)
        for state in (dense, cut)
    ]
    assert [float(cell) for cell in rows["a/kernel"]] == pytest.approx(wanted, rel=1e-3)
    assert rows["b/kernel"] == ["0.25", "0.25"]  # (1 / 2 - 1)^2 and (3 / 2 - 1)^2
    means = [(value + 0.25) / 2 for value in wanted]
    assert [float(cell) for cell in rows["mean over kernels"]] == pytest.approx(means, rel=1e-3)
    assert "/ 2, the gain" in lines[-1]


def test_images_of_imagenet_are_of_the_stages_classes_and_recipe(tmp_path):
    folder = str(tmp_path)
    write_fake_imagenet(folder)
    classes = tuple(
        sorted({*range(0, 500, 10), *range(501, 1000, 10)})
    )  # the fake one has images of every tenth
    recipe = data.ImageRecipe(16, (0.08, 1.0), (0.75, 1.33), 20, True)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    told = specs.DataSpec("imagenet100", mean, std, recipe=recipe, streamed=True, classes=classes)
    network = networks.StageNetwork(specs.ModelSpec("resnet8", (16, 16, 3), 100), told, {})
    found = spectrum_images.images(network, "imagenet100", folder, None)
    source = tfds.builder("imagenet2012", data_dir=folder).as_data_source(
        "validation", decoders={"image": tfds.decode.SkipDecoding()}
    )
    mine = [example["image"] for example in source if example["label"] in classes]
    assert len(found) == len(mine) == 50
    for at in (0, 49):
        pixels = data_images.eval_image(data_images.decode(mine[at], 3), recipe)
        np.testing.assert_allclose(found[at], (pixels / 255 - mean) / std, atol=1e-5)
    with pytest.raises(ValueError, match="--examples=51: imagenet100 has 50 test examples"):
        spectrum_images.images(network, "imagenet100", folder, 51)


@pytest.mark.slow
def test_the_spectrum_of_a_finished_stage_and_what_is_refused(tmp_path, capsys):
    digits = data.load("digits", data_dir=str(tmp_path / "tfds"))
    changes = {
        "dataset.name": "digits",
        "model.name": "mlp7_relu",
        "seeds": (0,),
        "pretrain.epochs": 1,
        "retrain.epochs": 1,
        "sparsify.recovery": "orthp",
    }
    arm = sweep.plan_arms(sweep.override(default_config(), changes), None, digits)[0]
    root = tmp_path / "w"
    store = storage_folder.open_workdir(root, "test")
    run.run_chain(cohort.Context(store, trainer.to_device(digits), arm.measure, 1e9, Progress(1)), arm)
    for folder in sorted((root / "stages").iterdir()):
        told = json.loads((folder / "stage.json").read_text())
        shared = [f"--checkpoint={folder}", f"--data_dir={tmp_path / 'tfds'}", "--examples=30"]
        assert spectrum.run(arguments(*shared, "--batch=7", "--chunk=3"), one_histogram) == 0
        out = capsys.readouterr().out
        assert (root / "figures" / f"spectrum_{folder.name}.png").stat().st_size > 5000
        network = restore.load(store, folder.name)
        x = (digits.test.images[:30] / 255 - network.data.mean[0]) / network.data.std[0]
        jacobian = jax.vmap(
            jax.jacrev(lambda v: twins.evaluated(network)(v[None])[0])  # noqa: B023
        )(np.float32(x))
        wanted = np.linalg.svd(np.float64(jacobian).reshape(30, 10, -1), compute_uv=False)
        (line,) = (line for line in out.splitlines() if line.startswith("mean  "))
        assert float(line.split()[1]) == pytest.approx(wanted.mean(), rel=1e-4)
        assert "kernel" not in out
        for flag, message in (
            ("--examples=501", "--examples=501: digits has 500 test examples"),
            ("--dataset=mnist5k", "has inputs (28, 28, 1), but the stage's mlp7_relu takes (8, 8, 1)"),
            ("--dataset=mnsit5k", "mnsit5k"),
            ("--dataset=cifar10", "is not prepared under"),
            ("--dataset=imagenet2012", "images of varying size; the stage's digits says no recipe"),
        ):
            assert spectrum.run(arguments(*shared, flag), one_histogram) == 2
            err = capsys.readouterr().err
            assert message in err
            assert len(err.strip().splitlines()) == 1
        assert spectrum.run(arguments(*shared, "--dataset=synthetic", "--weights"), one_histogram) == 0
        out = capsys.readouterr().out
        assert "30 test examples of synthetic" in out
        columns = ["dense", "pruned", "recovered"] if told["kind"] == "sparsify" else ["this", "stage"]
        (head,) = (line for line in out.splitlines() if line.startswith("kernel"))
        assert head.split() == ["kernel", *columns]
        gaps = [line.split()[1:] for line in out.splitlines() if line.startswith("layers/")]
        assert len(gaps) == 6
        if told["kind"] == "sparsify":
            assert all(float(recovered) < 1e-10 < float(pruned) for _, pruned, recovered in gaps)
    variables = network.variables
    variables["params"]["layers"][1]["kernel"] = np.full_like(
        variables["params"]["layers"][1]["kernel"], np.nan
    )
    disk.save_stage(store, folder.name, variables, told)
    assert spectrum.run(arguments(*shared), one_histogram) == 2
    assert "leaf 'params/layers/1/kernel' of stage" in capsys.readouterr().err
