"""Runs small enough for a test, in this process, and what ends them in the middle."""

from ml_collections import ConfigDict

from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.progress import Progress
from prune_jax.experiment.storage import folder
from prune_jax.experiment.training import cohort, trainer


class KilledError(Exception):
    """Stands for the end of the process: nothing after it runs."""


class Killer(Progress):
    """Ends the run after so many epochs, however they are spread over stages."""

    def __init__(self, after):
        super().__init__(1)
        self.after = after

    def epoch(self, number, *value):
        self.after -= 1
        if self.after < 0:
            raise KilledError


def mlp_config() -> ConfigDict:
    """The default config with a network of three narrow layers."""
    config = default_config()
    config.model.name = "mlp7_relu"
    config.model.options = ConfigDict({"hidden": 10, "depth": 3})
    return config


def context_of(root, dataset, *arms, progress=None, seconds=None):
    """What the stages of ``arms``, the runs of a sweep, share in the workdir ``root``.

    Where ``seconds`` isn't given, states inside a stage are written if ``progress`` may end the run, after every epoch.
    """
    store = folder.open_workdir(root, "test")
    seconds = (1e9 if progress is None else 0.0) if seconds is None else seconds
    shared = (arms[0].measure, seconds, progress or Progress(1))
    return cohort.Context(store, trainer.to_device(dataset), *shared, arms=arms)
