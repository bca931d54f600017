"""base.checkpoint: a file's weights become the base model, named by their content."""

import hashlib

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from prune_jax import data, fairness, models, report
from prune_jax.experiment import base_model, dry_run, launch, networks, specs
from prune_jax.experiment.chain import imported
from prune_jax.experiment.config import sweep as config_sweep
from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.progress import Progress
from prune_jax.experiment.storage import folder
from prune_jax.experiment.storage import stages as disk
from prune_jax.experiment.training import cohort, trainer


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("tfds")))
        yield data.load("digits")


def norm(name, width, rng):
    values = {"weight": 0.8, "bias": 0.1, "running_mean": 0.05, "running_var": 1.1}
    return {f"{name}.{k}": (v + 0.02 * rng.normal(size=width)).astype(np.float32) for k, v in values.items()}


def state_dict(classes=10, seed=0):
    """ResNet-8 on one channel with torchvision's names, written out by hand."""
    rng = np.random.default_rng(seed)

    def kernel(*shape):
        return (rng.normal(size=shape) * (2 / np.prod(shape[1:])) ** 0.5).astype(np.float32)

    state = {"conv1.weight": kernel(16, 1, 3, 3), **norm("bn1", 16, rng)}
    inputs = 16
    for i, width in enumerate((16, 32, 64), 1):
        for j, channels in ((1, inputs), (2, width)):
            state[f"layer{i}.0.conv{j}.weight"] = kernel(width, channels, 3, 3)
            state |= norm(f"layer{i}.0.bn{j}", width, rng)
        inputs = width
    head = kernel(classes, 64)
    head -= head.mean(1, keepdims=True)  # features are positive: without this one class would always win
    return state | {"fc.weight": head, "fc.bias": np.zeros(classes, np.float32)}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet8.safetensors"
    save_file(state_dict(), path)
    return path


def config_of(checkpoint, **changes):
    config = default_config()
    config.seeds = (0, 1)
    small = {"dataset.name": "digits", "model.name": "resnet8", "base.checkpoint": str(checkpoint)}
    return config_sweep.override(config, {**small, "retrain.epochs": 1, **changes})


def arm_of(config, digits):
    return config_sweep.plan_arms(config, None, digits)[0]


def test_the_base_models_id_is_the_content_of_the_file(checkpoint, digits):
    arm = arm_of(config_of(checkpoint), digits)
    content = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    ids = [specs.chain_ids(arm.chain, seed) for seed in arm.seeds]
    assert [chain[0] for chain in ids] == [content[:16]] * 2
    assert len({chain[1] for chain in ids}) == len({chain[2] for chain in ids}) == 2
    assert arm.chain[0].content == content
    lines = list(dry_run.describe((arm,), digits))
    assert f"imported  {content[:16]}  from {checkpoint}, for every seed" in lines[1]


def test_scratch_needs_no_base_model(tmp_path, digits):
    arm = arm_of(config_of(tmp_path / "none.safetensors", pipeline="scratch"), digits)
    assert isinstance(arm.chain[0], specs.Scratch)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"base.checkpoint is '.*base.safetensors': No such file or directory; give a .safetensors"),
        (b"nothing", r"base.checkpoint: .*base.safetensors is no readable safetensors file"),
        (
            state_dict(classes=7),
            r"base.checkpoint: the state dict doesn't fit resnet8: .*fc.weight is \(7, 64\)",
        ),
        (
            {"conv1.weight": np.zeros(3, np.float32)},
            r"base.checkpoint: .*keys 36 missing \(layer1.0.bn1.running_mean",
        ),
    ],
)
def test_bad_files_are_named_before_any_work(content, message, tmp_path, digits):
    path = tmp_path / "base.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        save_file(content, path)
    with pytest.raises(ValueError, match=message):
        arm_of(config_of(path), digits)


def test_networks_without_a_pytorch_twin_are_refused(checkpoint, digits):
    with pytest.raises(ValueError, match=r"base.checkpoint: mlp7_relu has no counterpart"):
        arm_of(config_of(checkpoint, **{"model.name": "mlp7_relu"}), digits)


def test_a_file_that_changes_after_planning_is_refused(tmp_path, digits):
    path = tmp_path / "base.safetensors"
    save_file(state_dict(), path)
    spec = arm_of(config_of(path), digits).chain[0]
    save_file(state_dict(seed=1), path)
    with pytest.raises(ValueError, match=r"base.safetensors has changed since the run was planned"):
        base_model.load(str(path), spec)


def test_what_is_brought_in_is_the_file_and_is_measured(checkpoint, digits, tmp_path):
    arm = arm_of(config_of(checkpoint), digits)
    spec, (_, _, retrain) = arm.chain[0], arm.chain
    context = cohort.Context(
        folder.open_workdir(tmp_path / "run", "test"),
        trainer.to_device(digits),
        arm.measure,
        1.0,
        Progress(1),
    )
    recipe = trainer.Recipe(spec.data, spec.model, 100, 0.9, 0.0, arm.execution)
    assert retrain.train.batch_size == recipe.batch_size
    assert not imported.is_measured(context, spec)
    imported.bring_in(context, spec, str(checkpoint), recipe)
    assert imported.is_measured(context, spec)

    network = models.functional(networks.abstract_model(spec.model))
    kept = disk.load_variables(context.store, spec.content[:16], network.variables)
    np.testing.assert_array_equal(kept["params"]["head"]["kernel"], state_dict()["fc.weight"].T)
    logits = jax.jit(network.apply)(kept, data.normalize(digits.test.images, (0.3055,), (0.3759,)))
    wanted = 100 * float(np.mean(np.argmax(logits, -1) == digits.test.labels))
    assert len(np.unique(np.argmax(logits, -1))) > 2
    (entry,) = disk.read_stage(context.store, spec.content[:16])["history"]
    assert entry["test_accuracy"] == pytest.approx(wanted, abs=0.21)  # a tie or two of 500 may fall otherwise

    shifted = specs.Imported(spec.content, spec.model, specs.DataSpec("digits", (0.5,), (0.5,)))
    assert not imported.is_measured(context, shifted)  # the same file on other inputs has another accuracy


@pytest.mark.slow
def test_runs_on_one_file_share_their_base_model(checkpoint, digits, tmp_path):
    def sweep(config):
        return [{"label": f"{r}", "sparsify.ratio": r} for r in (0.3, 0.5)]

    config = config_of(checkpoint, seeds=(0,))
    assert digits.name == config.dataset.name
    written = launch.launch(config, sweep, tmp_path / "run", "a test", report.write).report
    first, second = fairness.read_folder(tmp_path / "run")
    verdict = fairness.strictest_setup(first, second, rate_tolerance=1.0)
    assert verdict.holds("S4.2")
    assert (first.stages[0].kind, first.stages[0].epochs) == ("pretrain", None)  # nobody stated how long
    base = [result.base_accuracy for record in (first, second) for result in record.results]
    assert base[0] == base[1]
    assert first.stages[0].ids == (hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16],)
    again = launch.launch(config, sweep, tmp_path / "run", "a test", report.write).report
    assert again.read_text() == written.read_text()
