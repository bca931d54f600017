"""A config for tests that start many launches: three small layers on the 8x8 digits, two seeds, checkpoints always."""

from ml_collections import ConfigDict

from prune_jax.experiment.config.defaults import default_config


def get_config() -> ConfigDict:
    """Pretrain for four epochs, prune by L1, retrain for four."""
    config = default_config()
    config.experiment = "tiny_sweep"
    config.dataset.name = "digits"
    config.seeds = (0, 1)
    config.model.name = "mlp7_relu"
    config.model.options = ConfigDict({"hidden": 10, "depth": 3})
    config.pretrain.epochs = 4
    config.retrain.epochs = 4
    config.sparsify.recovery = "orthp"
    config.checkpoint_seconds = 0.0
    config.report.interactive = False
    config.ratios = (0.5,)
    return config


def sweep(config: ConfigDict) -> list[dict[str, object]]:
    """A run per ratio."""
    return [{"sparsify.ratio": ratio, "label": f"L1 {ratio}"} for ratio in config.ratios]
