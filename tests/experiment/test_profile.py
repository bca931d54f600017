import gzip
import json

import pytest
from ml_collections import ConfigDict

from prune_jax.experiment.commands import profile
from prune_jax.experiment.config.defaults import default_config


@pytest.fixture
def config(tmp_path_factory):
    config = default_config()
    config.experiment = "profiled"
    config.dataset.name = "digits"
    config.dataset.data_dir = str(tmp_path_factory.mktemp("tfds"))
    config.model.name = "mlp7_relu"
    config.model.options = ConfigDict({"hidden": 10, "depth": 3})
    config.execution.epoch = "step"
    return config


@pytest.mark.slow
def test_so_many_steps_are_in_the_trace_and_no_stage_was_begun(config, tmp_path):
    folder = profile.profile(config, None, tmp_path / "w", 3)
    assert folder == tmp_path / "w" / "profile"
    (trace,) = folder.rglob("*[!o].trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    calls = [event.get("name", "") for event in events]
    steps, means = (calls.count(f"PjitFunction({name})") for name in ("train", "_mean"))
    assert steps == 3 * means > 0  # the mean is taken once, over the steps; JAX tells of every call alike
    assert list(folder.rglob("perfetto_trace.json.gz"))
    assert not (tmp_path / "w" / "stages").exists()


@pytest.mark.parametrize("steps", [0, 13])
def test_more_steps_than_an_epoch_has_are_refused(config, tmp_path, steps):
    with pytest.raises(ValueError, match=f"--profile={steps}: an epoch of digits has 12 steps; give 1 to 12"):
        profile.profile(config, None, tmp_path / "w", steps)
    assert not (tmp_path / "w").exists()
