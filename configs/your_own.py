"""Bring your own: network, data, criterion and optimiser of ``your_parts.py``, the file beside this one.

python run.py --config=configs/your_own.py
python run.py --config=configs/your_own.py --config.quick
"""

from ml_collections import ConfigDict

from prune_jax.experiment.config.defaults import default_config


def get_config() -> ConfigDict:
    """A small CNN on digits, half of its channels removed by batch-norm scale, then retrained."""
    config = default_config()
    config.experiment = "your_own"
    config.model = ConfigDict({"name": "your_parts:SmallCNN", "options": {"width": 24}})
    config.dataset.name = "your_parts:load"
    config.sparsify.criterion = "your_parts:bn_scale"
    config.optimizer.name = "your_parts:my_sgd"
    config.pretrain.epochs, config.pretrain.schedule = 20, "0:1e-1,15:1e-2"
    config.retrain.epochs, config.retrain.schedule = 10, "0:1e-2"
    return config


def quick(config: ConfigDict) -> dict:
    """Fewer epochs for --config.quick."""
    return {"seeds": (0, 1), "pretrain.epochs": 4, "pretrain.schedule": "0:1e-1,3:1e-2", "retrain.epochs": 2}
