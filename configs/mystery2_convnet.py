"""Mystery 2, the value of pruning: pruned against scratch under the paper's three regimes (Table 4).

python run.py --config=configs/mystery2_convnet.py
python run.py --config=configs/mystery2_convnet.py --config.quick
python run.py --config=configs/mystery2_convnet.py --config.ratios='(0.9,)' --workdir=runs/mystery2_90

Fashion-MNIST (Debian's package dataset-fashion-mnist, or TFDS), 10,000 training images, five convolutions with batch
norm. Seven of Table 4's rows at three ratios and 24 epochs in all, twice as many as fashion_table4.py has. About 40
minutes of one CPU core (estimated). At ratio 0.9 one dense epoch costs more than scratch's whole training, so that
the row of SX-B is named for what it spends.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import recipes, table4


def get_config() -> ConfigDict:
    """Five convolutions on Fashion-MNIST at three ratios, each of Table 4's epoch counts divided by five."""
    config = recipes.conv5_fashion("mystery2_convnet", seeds=5)
    recipes.table4_rows(config)
    config.ratios = (0.5, 0.7, 0.9)
    config.shorten = 5.0  # divides the paper's epochs: 120 become 24
    config.fill_compute = True
    config.same_schedule = (30, 60, 90)  # pruning epochs on scratch's own schedule
    config.same_epochs = ((30, 1e-1), (60, 1e-2))  # SX-A: pruning epoch, retraining LR
    config.same_compute = ((90, 1e-1),)  # SX-B: retraining epochs, retraining LR; dense epochs by the speedup
    config.report.title = "Mystery 2: the value of pruning (five convolutions)"
    config.report.sections = ("statements", "pruned_vs_scratch", "pruning_value", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: the 8x8 digits, narrow layers, two seeds, two ratios, eight epochs."""
    del config
    return recipes.few_fashion() | {
        "ratios": (0.5, 0.9),
        "shorten": 15.0,
        "same_schedule": (30,),
        "same_epochs": ((30, 1e-1),),
    }


sweep = table4.all_rows  # per ratio: scratch, pruning along scratch's schedule, SX-A and SX-B
