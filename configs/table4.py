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

from prune_jax.experiment.protocols import recipes, speedups, table4


def get_config() -> ConfigDict:
    """Twelve rows at six ratios: same overall schedule ('S4.2'), SX-A, SX-B, and scratch."""
    config = recipes.resnet34_imagenet100("table4")
    config.ratios = (0.1, 0.3, 0.5, 0.7, 0.9, 0.95)
    config.same_schedule = (15, 30, 45, 60, 75, 90)  # pruning epochs
    config.same_epochs = ((30, 1e-1), (60, 1e-2), (90, 1e-2))  # SX-A: pruning epoch, retraining LR
    config.same_compute_epochs = 90  # SX-B: retraining epochs; 30/k dense ones before
    config.same_compute_lrs = (1e-1, 1e-2)
    config.report.title = "Table 4: the value of pruning"
    config.report.sections = ("beside_paper", "pruning_value", "pruned_vs_scratch", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: all twelve rows at two ratios."""
    del config
    return recipes.toy(shorten=15) | {"ratios": (0.3, 0.7)}


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """A run per row and ratio; the speedup k of SX-B is the network's own at that ratio."""
    protocol, spec = table4.protocol_of(config), speedups.spec_of(config)
    layers = tuple(config.sparsify.layers)
    fixed = [
        table4.scratch(protocol),
        *(table4.same_overall_schedule(protocol, epoch) for epoch in config.same_schedule),
        *(table4.same_epochs(protocol, epoch, lr) for epoch, lr in config.same_epochs),
    ]
    runs = []
    for ratio in config.ratios:
        k = speedups.speedup(spec, layers, ratio)
        by_ratio = [
            table4.same_compute(protocol, config.same_compute_epochs, lr, k) for lr in config.same_compute_lrs
        ]
        runs += [table4.overrides(row, ratio, config.shorten) for row in (*fixed, *by_ratio)]
    return runs
