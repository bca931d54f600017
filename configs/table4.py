r"""Table 4: the value of pruning, L1-norm against scratch under three comparison regimes.

python run.py --config=configs/table4.py                  (ResNet34 on ImageNet100, as the paper)
python run.py --config=configs/table4.py --config.quick   (digits, MLP-7, every epoch count / 15)
python run.py --config=configs/table4.py --config.dataset.name=mnist5k --config.model.name=resnet8 \
    --config.shorten=10 --workdir=runs/table4_mnist5k
python -m prune_jax report runs/table4 --table=4          (ours beside the paper's, cell by cell)

ImageNet100 is streamed from ImageNet as TFDS prepares it; where that isn't there, the launch says the command.
Its 100 classes are drawn with --config.dataset.classes_seed or listed in --config.dataset.classes_file.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import recipes, table4


def get_config() -> ConfigDict:
    """Twelve rows at six ratios: same overall schedule ('S4.2'), SX-A, SX-B, and scratch."""
    config = recipes.resnet34_imagenet100("table4")
    recipes.table4_rows(config)
    config.fill_compute = False  # retraining lasts as printed; at ratio 0.95 that is nearly SX-B
    config.ratios = (0.1, 0.3, 0.5, 0.7, 0.9, 0.95)
    config.report.title = "Table 4: the value of pruning"
    config.report.sections = ("statements", "beside_paper", "pruning_value", "pruned_vs_scratch", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: all twelve rows at one ratio."""
    del config
    return recipes.toy(shorten=15) | {"ratios": (0.7,)}


sweep = table4.all_rows  # a run per row and ratio
