"""Gradual pruning and sparse training from random weights, all at equal training FLOPs: GMP, RigL, SET, SFP, static.

python run.py --config=configs/sparse_training.py
python run.py --config=configs/sparse_training.py --config.quick
python run.py --config=configs/sparse_training.py --config.ratios="(0.9,)" --workdir=runs/sparse_90

Thirteen minutes on two CPU cores beside other work. FLOPs are counted where zeros are skipped. Each run lasts as many
epochs as bring it nearest to ``config.budget``, in epochs of the dense network: sparser ones last longer. On hardware
that computes zeros they take as much longer.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.protocols import equal_compute

GRADUAL = ("gmp", "sfp")  # of a network that is dense at first


def get_config() -> ConfigDict:
    """An MLP of four layers on 4,000 MNIST images, all layers but the last at three ratios."""
    config = default_config()
    config.experiment = "sparse_training"
    config.dataset.name = "mnist5k"
    config.model.name = "mlp7_relu"
    config.model.options = ConfigDict({"depth": 4})
    config.seeds = (0, 1, 2, 3, 4)
    config.rules = ("gmp", "rigl", "set", "sfp", "static")
    config.ratios = (0.8, 0.9, 0.95)
    config.budget = 19.75  # epochs of the dense network: about twenty of SFP, which skips the least
    config.lrs = (1e-2, 1e-3, 1e-4)  # for a half, a quarter and a quarter of the epochs
    config.mask_rule.layers = ("layers/*",)
    config.mask_rule.interval = 0  # every epoch
    config.report.title = "Sparse training at equal training FLOPs (MLP of four layers)"
    config.report.sections = ("equal_compute_ranking", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: two seeds, four rules, one ratio, digits, a budget of four epochs."""
    del config
    return {
        "dataset.name": "digits",
        "dataset.train_examples": 300,
        "seeds": (0, 1),
        "ratios": (0.8,),
        "rules": ("gmp", "rigl", "sfp", "static"),  # 'set' is compiled as 'rigl' is
        "budget": 4.0,
    }


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """A run per ratio and rule, its epochs such that all have the same training FLOPs."""
    steps = equal_compute.steps_of(config)
    return [_run(config, rule, ratio, steps) for ratio in config.ratios for rule in config.rules]


def _run(config: ConfigDict, rule: str, ratio: float, steps: int) -> dict[str, Any]:
    stage = "gradual" if rule in GRADUAL else "sparse_scratch"
    chain = ({"stage": "initialise"}, {"stage": stage}) if rule in GRADUAL else ({"stage": stage},)
    own = {"mask_rule.name": rule, "mask_rule.ratio": ratio}
    if rule == "static":
        own["mask_rule.interval"] = None  # it never changes
    epochs = equal_compute.epochs_at(config, own, config.budget, steps)
    return own | {
        "label": f"{rule} {ratio:g}, {epochs} epochs",
        "chain": chain,
        f"{stage}.epochs": epochs,
        f"{stage}.schedule": equal_compute.decayed(epochs, config.lrs),
    }
