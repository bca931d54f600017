r"""Table 6: step and cosine LR, small and large, retraining and scratch; ResNet56 on CIFAR10.

python run.py --config=configs/table6.py                  (as the paper; cifar10 must be prepared by TFDS)
python run.py --config=configs/table6.py --config.quick   (digits, MLP-7, every epoch count / 20)
python run.py --config=configs/table6.py --config.dataset.name=mnist5k --config.model.name=resnet8 \
    --config.shorten=10 --workdir=runs/table6_mnist5k
python -m prune_jax report runs/table6 --table=6          (ours beside the paper's, cell by cell)
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment import recipes, step_or_cosine


def get_config() -> ConfigDict:
    """Six rows at four ratios (App. C)."""
    config = recipes.cifar("table6", "cifar10", "resnet56", batch_size=128)
    config.ratios = (0.3, 0.5, 0.7, 0.9)
    config.dense = recipes.plan_of(200, "0:1e-1,100:1e-2,150:1e-3")  # the base model's and scratch's
    config.retrain_epochs = 120
    config.retrain_lrs = (1e-3, 1e-2)
    config.final_lr = 1e-4  # where retraining ends
    config.tables = (6,)
    config.report.title = "Table 6: step and cosine LR (ResNet56)"
    config.report.sections = ("beside_paper", "base", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: all six rows at two ratios."""
    return recipes.toy(shorten=20) | {"ratios": config.ratios[1:3]}


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """A run per row and ratio."""
    return step_or_cosine.entries(config)
