r"""Table 7: step and cosine LR, small and large, retraining and scratch; VGG19 on CIFAR100.

python run.py --config=configs/table7.py                  (as the paper; cifar100 must be prepared by TFDS)
python run.py --config=configs/table7.py --config.quick   (digits, MLP-7, every epoch count / 20)
python run.py --config=configs/table7.py --config.dataset.name=mnist5k --config.model.name=resnet8 \
    --config.shorten=10 --workdir=runs/table7_mnist5k
python -m prune_jax report runs/table7 --table=7          (ours beside the paper's, cell by cell)
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment import recipes, step_or_cosine


def get_config() -> ConfigDict:
    """Six rows at four ratios (App. C)."""
    config = recipes.cifar("table7", "cifar100", "vgg19", batch_size=256)
    config.ratios = (0.1, 0.3, 0.5, 0.7)  # printed as 0.3 to 0.9: docs/errata.md, section 1
    config.dense = recipes.plan_of(200, "0:1e-1,100:1e-2,150:1e-3")  # the base model's and scratch's
    config.retrain_epochs = 120
    config.retrain_lrs = (1e-3, 1e-2)
    config.final_lr = 1e-4  # where retraining ends
    config.tables = (7,)
    config.report.title = "Table 7: step and cosine LR (VGG19)"
    config.report.sections = ("beside_paper", "base", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: all six rows at two ratios."""
    return recipes.toy(shorten=20) | {"ratios": config.ratios[1:3]}


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """A run per row and ratio."""
    return step_or_cosine.entries(config)
