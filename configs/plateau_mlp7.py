"""How long must the small LR train? LR stages that end at plateaus beside a fixed schedule, on MLP-7-Linear.

python run.py --config=configs/plateau_mlp7.py
python run.py --config=configs/plateau_mlp7.py --config.quick
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.defaults import default_config
from prune_jax.schedules import halving


def get_config() -> ConfigDict:
    """Prune by L1 at three ratios, retrain under three initial LRs: fixed schedules and plateau-extended ones."""
    config = default_config()
    config.experiment = "plateau_mlp7"
    config.model.name = "mlp7_linear"
    config.model.options = ConfigDict({"init": "orthogonal", "hidden": 100})
    config.optimizer.weight_decay = 1e-4
    config.measure.jsv = "spectrum"
    config.measure.examples = 512
    config.measure.every = 10
    config.retrain_epochs = 30  # of the fixed schedule
    config.retrain_lrs = (1e-2, 3e-3, 1e-3)
    config.drops = 2  # LR drops, each by ten: as many stages for every initial LR, and one more
    config.ratios = (0.5, 0.7, 0.9)
    config.report.title = "How long must the small LR train? (MLP-7-Linear)"
    config.report.sections = (
        "base",
        "lr_spread",
        "accuracy_beside_jsv",
        "spectra",
        "accuracy",
    )
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: the 8x8 digits, two seeds, a few epochs, one ratio."""
    del config
    return {
        "dataset.name": "digits",
        "seeds": (0, 1),
        "pretrain.epochs": 4,
        "retrain_epochs": 6,
        "retrain_lrs": (1e-2, 1e-3),
        "drops": 1,
        "ratios": (0.7,),
        "measure.examples": 50,
        "measure.every": 2,
        "retrain.plateau.window": 2,
        "retrain.plateau.minimum": 4,
        "retrain.plateau.maximum": 8,
        "retrain.plateau.examples": 50,
    }


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """A run per ratio, initial LR and way to end an LR stage."""
    return [
        {
            "label": f"L1 {ratio:g}, LR {lr:g}, {extend or 'fixed'}",
            "sparsify.ratio": ratio,
            "retrain.epochs": config.retrain_epochs,
            "retrain.schedule": str(halving(config.retrain_epochs, lr, lr / 10**config.drops)),
            "retrain.extend": extend,
        }
        for ratio in config.ratios
        for lr in config.retrain_lrs
        for extend in ("", "plateau")
    ]
