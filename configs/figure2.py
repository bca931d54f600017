r"""Figure 2: test accuracy along retraining, epoch by epoch, P60F60 at LR 1e-3, with 180 more epochs too.

python run.py --config=configs/figure2.py                  (ResNet34 on ImageNet100, as the paper)
python run.py --config=configs/figure2.py --config.quick   (digits, MLP-7, every epoch count / 15)
python run.py --config=configs/figure2.py --config.dataset.name=mnist5k --config.model.name=resnet8 \
    --config.shorten=10 --workdir=runs/figure2_mnist5k

The report draws a panel a run: LR drops as red verticals, the end of the unextended run's first stage as a
cross, and the paper's points where the epochs are the same. ImageNet100 is streamed from ImageNet as
TFDS prepares it; where that isn't there, the launch says the command.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment import recipes, regimes


def get_config() -> ConfigDict:
    """Two rows of Table 5, ratio 0.95."""
    config = recipes.resnet34_imagenet100("figure2")
    config.ratios = (0.95,)
    config.rows = (  # pruning epoch, retraining LR, extra epochs
        (60, 1e-3, 0),  # 2(a)
        (60, 1e-3, 180),  # 2(b)
    )
    config.report.title = "Figure 2: accuracy along retraining"
    config.report.sections = ("retraining_curves", "beside_paper", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: the same rows."""
    del config
    return recipes.toy(shorten=15)


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """A run per row and ratio."""
    return regimes.entries(config)
