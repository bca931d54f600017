"""Pruning methods beside each other: criterion, ratio, retraining LR and seed, in setups that hold.

python run.py --config=configs/methods.py
python run.py --config=configs/methods.py --config.quick
python run.py --config=configs/methods.py --config.methods="('l1','fpgm')" --workdir=runs/two_methods
python run.py --config=configs/methods.py --config.dataset.name=mnist5k --workdir=runs/methods_mnist5k
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import mystery1, recipes


def get_config() -> ConfigDict:
    """ResNet-8 on scikit-learn's digits: fifteen criteria at three ratios, retrained from two initial LRs."""
    # Digits are small: ten seeds take no longer than two of MNIST. Holm's correction over fifteen methods leaves
    # three seeds no power.
    config = recipes.resnet8_digits("methods", seeds=10)
    # Without 'lamp': at one ratio for all layers it removes what 'l2' does.
    config.methods = ("random", "largest", "l1", "l2", "fpgm", "bn_scale")  # without data
    config.methods += ("taylor", "fisher", "hessian")  # of the loss
    config.methods += ("hrank", "activation", "wanda", "flap", "thinet", "channel_lasso")  # of activations
    config.ratios = (0.5, 0.7, 0.9)
    config.retrain_lrs = (1e-2, 1e-3)
    config.retrain.epochs = 8
    config.final_lr = 1e-4  # the last LR that the halving rule steps down to
    config.report.title = "Methods in setups that hold (ResNet-8, filter pruning)"
    config.report.sections = ("base", "method_ranking", "damage_and_lr", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: four criteria, two seeds, one ratio, two retraining epochs."""
    del config
    return recipes.few_digits() | {
        "methods": ("random", "l1", "bn_scale", "taylor"),
        "ratios": (0.5,),
        "retrain.epochs": 2,
        "sparsify.evidence.batches": 2,
    }


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """A run per ratio, initial retraining LR and method."""
    return [
        {
            "label": f"{method} {ratio:g}, LR {lr:g}",
            "sparsify.criterion": method,
            "sparsify.ratio": ratio,
            "retrain.schedule": str(mystery1.halved(config.retrain.epochs, lr, config.final_lr)),
        }
        for ratio in config.ratios
        for lr in config.retrain_lrs
        for method in config.methods
    ]
