"""Rewinding and its rivals: weights back to initialisation or to epoch k, LRs back, CLR, fine-tuning.

python run.py --config=configs/rewinding.py
python run.py --config=configs/rewinding.py --config.quick
python run.py --config=configs/rewinding.py --config.epoch_k=4 --workdir=runs/rewinding_4

Every retraining starts from the same pruned networks. Those that last equally long are beside each other.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import recipes
from prune_jax.schedules import LRSchedule


def get_config() -> ConfigDict:
    """ResNet-8 on scikit-learn's digits: the smallest weights of the whole network masked, at two ratios."""
    config = recipes.resnet8_digits("rewinding", seeds=5)
    config.sparsify.granularity = "unstructured"
    config.sparsify.allocation = "global"
    config.sparsify.layers = ("blocks/*",)
    config.ratios = (0.8, 0.95)
    config.epoch_k = 2  # of pretraining, to which weights go back
    config.report.title = "Retrainings of the same pruned networks (ResNet-8, magnitude)"
    config.report.sections = ("base", "retraining_ranking", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: two seeds, one ratio, three epochs of pretraining."""
    del config
    return recipes.few_digits() | {
        "sparsify.layers": ("convs/*",),
        "ratios": (0.8,),
        "epoch_k": 1,
    }


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """Per ratio: weights back to 0 and to ``epoch_k``, each with what else can be done in as many epochs."""
    return [
        entry for ratio in config.ratios for to in (0, config.epoch_k) for entry in _rows(config, ratio, to)
    ]


def _rows(config: ConfigDict, ratio: float, to: int) -> list[dict[str, Any]]:
    """Four retrainings of as many epochs as pretraining has after epoch ``to``."""
    pretraining = LRSchedule.parse(config.pretrain.schedule, config.pretrain.epochs)
    epochs = pretraining.epochs - to
    last = f"0:{pretraining.at(pretraining.epochs - 1):g}"
    rows = {
        f"weights back to {to}": (to, "rewind"),
        "LRs back": (None, "rewind"),
        "CLR": (None, "clr"),
        "fine-tuning": (None, last),  # at pretraining's last LR
    }
    return [
        {
            "label": f"{name}, {ratio:g}, {epochs} epochs",
            "sparsify.ratio": ratio,
            "rewind.to": back,
            "retrain.epochs": epochs,
            "retrain.schedule": schedule,
        }
        for name, (back, schedule) in rows.items()
    ]
