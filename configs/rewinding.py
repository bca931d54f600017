"""Rewinding and its rivals: weights back to initialisation or to epoch k, LRs back, CLR, fine-tuning.

python run.py --config=configs/rewinding.py
python run.py --config=configs/rewinding.py --config.quick
python run.py --config=configs/rewinding.py --config.epoch_k=4 --workdir=runs/rewinding_4

Every retraining starts from the same pruned networks. Those that last equally long are beside each other.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.config.defaults import default_config
from prune_jax.schedules import LRSchedule


def get_config() -> ConfigDict:
    """ResNet-8 on scikit-learn's digits: the smallest weights of the whole network masked, at two ratios."""
    config = default_config()
    config.experiment = "rewinding"
    config.dataset.name = "digits"
    config.model.name = "resnet8"
    config.optimizer.weight_decay = 5e-4
    config.seeds = (0, 1, 2, 3, 4)
    config.pretrain.epochs = 10
    config.pretrain.schedule = "0:5e-2,6:5e-3"
    config.sparsify.granularity = "unstructured"
    config.sparsify.allocation = "global"
    config.sparsify.layers = ("blocks/*",)
    config.ratios = (0.8, 0.95)
    config.epoch_k = 2  # of pretraining, to which weights go back
    config.measure.jsv = True
    config.measure.every = 1000  # before and after the stages alone
    config.measure.examples = 100
    config.report.title = "Retrainings of the same pruned networks (ResNet-8, magnitude)"
    config.report.sections = ("base", "retraining_ranking", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: two seeds, one ratio, three epochs of pretraining."""
    del config
    return {
        "seeds": (0, 1),
        "dataset.train_examples": 300,
        "ratios": (0.8,),
        "epoch_k": 1,
        "pretrain.epochs": 3,
        "pretrain.schedule": "0:5e-2,2:5e-3",
        "measure.examples": 20,
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
