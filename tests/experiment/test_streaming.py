"""Training from a stream: the masked evaluation, checkpoints in mid-epoch, and a resume that is exact."""

import contextlib
import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from small_runs import KilledError

from prune_jax.experiment.chain import run as chain_run
from prune_jax.experiment.chain import train
from prune_jax.experiment.config import dataset as config_dataset
from prune_jax.experiment.config import sweep
from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.processes import preemption
from prune_jax.experiment.progress import Progress
from prune_jax.experiment.storage import checkpoints
from prune_jax.experiment.storage import folder as storage_folder
from prune_jax.experiment.training import cohort, inputs
from prune_jax.experiment.training import trainer as training_trainer


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = default_config()
    config.dataset.name, config.dataset.stream = "digits", "True"
    config.dataset.data_dir = str(tmp_path_factory.mktemp("tfds"))
    config.model = ConfigDict({"name": "mlp7_relu", "options": {"hidden": 10, "depth": 3}})
    config.pipeline, config.seeds = "scratch", (0, 1)
    config.optimizer.batch_size = 300  # four steps an epoch
    config.scratch.epochs = 2
    return config


@pytest.fixture(scope="module")
def arm_and_inputs(config):
    dataset = config_dataset.open_dataset(config)
    (arm,) = sweep.plan_arms(config, None, dataset)
    return arm, inputs.on_stream(dataset, arm.chain[0].data, 0, 5)


def run(root, arm, on, stopping=lambda: False, seconds=1e9):
    context = cohort.Context(
        storage_folder.open_workdir(root, "test"), on, arm.measure, seconds, Progress(1), stopping=stopping
    )
    chain_run.run_chain(context, arm)


def outcome(root):
    files = sorted(root.glob("stages/*/stage.json"))
    return {
        file.parent.name: [json.loads(file.read_text())[k] for k in ("digest", "history")] for file in files
    }


def asked_at(call, error=None):
    """A stop that is asked for at the ``call``-th question, or an end without a word there."""
    calls = iter(range(1, 10**6))

    def stopping():
        if next(calls) < call:
            return False
        if error:
            raise error
        return True

    return stopping


@pytest.mark.slow
def test_ended_in_mid_epoch_and_started_again_ends_bit_identical(tmp_path, arm_and_inputs):
    arm, on = arm_and_inputs
    assert arm.execution[:2] == ("step", "loop")
    run(tmp_path / "whole", arm, on)
    assert len(outcome(tmp_path / "whole")) == 2
    places = set()
    for call in (3, 12):
        root = tmp_path / f"asked{call}"
        with pytest.raises(
            preemption.PreemptedError, match=r"kept after epoch \d of 2 and \d steps .* to go on"
        ):
            run(root, arm, on, asked_at(call))
        (folder,) = root.glob("partial/*")
        said = checkpoints.read_partial(storage_folder.open_workdir(root, "test"), folder.name)
        places.add((said["epoch"], said["step"]))
        assert said["data"]["step"] == 4 * said["epoch"] + said["step"]
        run(root, arm, on)
        assert outcome(root) == outcome(tmp_path / "whole")
    assert any(step for _, step in places)
    root = tmp_path / "killed"
    with contextlib.suppress(KilledError):  # kept at every step, ended without a word
        run(root, arm, on, asked_at(4, KilledError), seconds=0.0)
        pytest.fail("the run was to be killed")
    run(root, arm, on)
    assert outcome(root) == outcome(tmp_path / "whole")


def test_the_masked_evaluation_is_the_whole_sets(arm_and_inputs, config):
    arm, on = arm_and_inputs
    config = sweep.override(config, {"dataset.stream": "False"})
    whole = inputs.to_device(config_dataset.open_dataset(config))
    trainer = training_trainer.make_trainer(train.recipe_of(arm, arm.chain[0]))
    variables = train.fresh(arm.model, None, 0)
    state = trainer.init(jax.tree.map(lambda leaf: np.asarray(leaf)[None], variables))
    assert whole.test_size % 300
    np.testing.assert_array_equal(trainer.accuracy(state, on), trainer.accuracy(state, whole))
    np.testing.assert_array_equal(on.test_images, whole.test_images[:5])


def test_a_checkpoint_of_another_stream_is_refused(tmp_path, arm_and_inputs, monkeypatch):
    arm, on = arm_and_inputs
    with pytest.raises(preemption.PreemptedError):
        run(tmp_path, arm, on, asked_at(3))
    open_part = inputs.open_part
    monkeypatch.setattr(inputs, "open_part", lambda *a, seed, **k: open_part(*a, seed=seed + 7, **k))
    with pytest.raises(ValueError, match=r"the saved stream differs in seed \(0, here 7\)"):
        run(tmp_path, arm, on)


@pytest.mark.parametrize(("key", "value"), [("execution.epoch", "scan"), ("execution.replicas", "vmap")])
def test_what_a_stream_can_not_do_is_refused(config, key, value):
    with pytest.raises(
        ValueError, match=rf"{key} (is )?'{value}'.*streamed data set allows 'step' and 'loop'"
    ):
        sweep.plan_arms(sweep.override(config, {key: value}), None, config_dataset.open_dataset(config))
