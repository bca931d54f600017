"""Table 6 on real images anyone can rerun: step and cosine LR, 1e-2 and 1e-3, two networks, Fashion-MNIST.

python run.py --config=configs/fashion_table6.py
python run.py --config=configs/fashion_table6.py --config.quick

10,000 training images (Debian's package dataset-fashion-mnist, or TFDS), batch 100, weight decay 5e-4, five seeds.
One network is five convolutions with batch norm, the other LeNet-5, which has none. LeNet-5's dense LRs are a tenth:
without batch norm an LR of 0.1 leaves it at chance.

Shortened so that the whole takes about 35 minutes of one CPU core (estimated): every epoch count is divided by 20, so
dense networks train for 10 epochs instead of 200 and retraining lasts 6 instead of 120.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import recipes, table6


def get_config() -> ConfigDict:
    """Six rows at four ratios (App. C), for each of two networks."""
    config = recipes.conv5_fashion("fashion_table6", seeds=5)
    title = "Table 6 on Fashion-MNIST: step and cosine LR (five convolutions, LeNet-5)"
    recipes.step_or_cosine_rows(config, title, table=6, ratios=(0.3, 0.5, 0.7, 0.9))
    config.tables = ()  # the paper's cells are of one network
    config.networks = (  # name, LR schedule of dense training
        ("conv5_bn", "0:1e-1,100:1e-2,150:1e-3"),
        ("lenet5", "0:1e-2,100:1e-3,150:1e-4"),
    )
    config.shorten = 20.0
    config.report.sections = ("larger_lr", "base", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: digits, two MLPs, one ratio."""
    del config
    return {
        "dataset.name": "digits",
        "dataset.train_examples": 300,
        "seeds": (0, 1),
        "ratios": (0.5,),
        "shorten": 60.0,
        "networks": (("mlp7_linear", "0:1e-2,100:1e-3,150:1e-4"), ("mlp7_relu", "0:1e-2,100:1e-3,150:1e-4")),
    }


sweep = table6.entries_of_networks  # a run per network, row and ratio
