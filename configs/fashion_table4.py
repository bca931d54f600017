r"""Table 4 on real images anyone can rerun: twelve rows at six ratios, Fashion-MNIST, a network of five convolutions.

python run.py --config=configs/fashion_table4.py
python run.py --config=configs/fashion_table4.py --config.quick
python -m prune_jax report runs/fashion_table4 --table=4          (ours beside the paper's, cell by cell)

10,000 training images (stratified, seeded), batch 100, weight decay 5e-4, five seeds. The files come from Debian's
package dataset-fashion-mnist, or from TFDS.

Shortened so that the whole takes about 75 minutes of one CPU core (estimated): the paper's 120 epochs are 12 here,
each row's count divided by ten, and LR stages are divided alike. All 10,000 test images are used. SX-B counts whole
epochs, so its retraining takes what the dense epochs leave of scratch's compute, which fits within 2 % at ratios 0.1
and 0.3. At 0.5 and 0.7 the rows spend 4 and 3 % less than scratch. At 0.9 and 0.95 the network is 33 and 57 times
faster, so that one dense epoch alone costs more than the 12 of scratch. All these rows are called nearly SX-B, and
their names say how much they spend.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import recipes, table4


def get_config() -> ConfigDict:
    """Twelve rows at six ratios: same overall schedule ('S4.2'), SX-A, SX-B, and scratch."""
    config = recipes.conv5_fashion("fashion_table4", seeds=5)
    recipes.table4_rows(config)
    config.tables = (4,)
    config.ratios = (0.1, 0.3, 0.5, 0.7, 0.9, 0.95)
    config.shorten = 10.0  # divides the paper's epochs: 120 become 12
    config.fill_compute = True
    config.report.title = "Table 4 on Fashion-MNIST: the value of pruning (five convolutions)"
    config.report.sections = (
        "statements",
        "pruned_vs_scratch",
        "pruning_value",
        "beside_paper",
        "accuracy",
    )
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: all twelve rows at one ratio, on digits."""
    del config
    return recipes.few_fashion() | {"ratios": (0.7,), "shorten": 15.0}


sweep = table4.all_rows  # a run per row and ratio
