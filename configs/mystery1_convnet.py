"""Mystery 1 on a ResNet: filter pruning, trainability accuracy and mean JSV side by side.

python run.py --config=configs/mystery1_convnet.py
python run.py --config=configs/mystery1_convnet.py --config.quick
python run.py --config=configs/mystery1_convnet.py --config.long

Measured (2 CPU cores shared with other work, 13 minutes; jax 0.10.2, seeds 0, 1, 2): mean JSV 1.42 before, 0.18 right
after pruning. LR 1e-2 against 1e-3: 61.3 and 46.7 % after 1 epoch, 89.4 and 73.6 after 3, 94.2 and 85.2 after 10; the
gap is +14.7, +15.8 and +9.0 points, so ten epochs narrow it and do not close it. Trainability accuracy 79.7 and 71.0 in
the runs of 10 epochs. Its records: results/mystery1_convnet. Not measured on an accelerator.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.protocols import mystery1


def get_config() -> ConfigDict:
    """ResNet-8 on 4,000 MNIST images: 90 % of each block's first filters removed, two initial LRs."""
    config = default_config()
    config.experiment = "mystery1_convnet"
    config.model.name = "resnet8"
    config.optimizer.weight_decay = 5e-4
    config.pretrain.epochs = 10
    config.pretrain.schedule = "0:5e-2,6:5e-3"
    config.measure.jsv = True
    config.measure.examples = 100
    config.retrain_epochs = (1, 3, 10)
    config.retrain_lrs = (1e-2, 1e-3)
    config.final_lr = 1e-4  # the last LR that the halving rule steps down to
    config.ratios = (0.9,)
    config.recoveries = ("none",)
    config.report.title = "Mystery 1: why a larger retraining LR looks better (ResNet-8, filter pruning)"
    config.report.sections = mystery1.SECTIONS
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: 300 of the 8x8 digits, two seeds, up to three epochs."""
    del config
    return {
        "dataset.name": "digits",
        "dataset.train_examples": 300,
        "seeds": (0, 1),
        "pretrain.epochs": 3,
        "pretrain.schedule": "0:5e-2,2:5e-3",
        "retrain_epochs": (1, 3),
        "measure.examples": 20,
    }


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """A run per ratio, recovery, initial LR and number of retraining epochs; --config.long adds 30 epochs."""
    return mystery1.grid(config, (*config.retrain_epochs, *((30,) if config.long else ())))
