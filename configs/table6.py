r"""Table 6: step and cosine LR, small and large, retraining and scratch; ResNet56 on CIFAR10.

python run.py --config=configs/table6.py                  (as the paper; cifar10 must be prepared by TFDS)
python run.py --config=configs/table6.py --config.quick   (digits, MLP-7, every epoch count / 20)
python run.py --config=configs/table6.py --config.dataset.name=mnist5k --config.model.name=resnet8 \
    --config.shorten=10 --workdir=runs/table6_mnist5k
python -m prune_jax report runs/table6 --table=6          (ours beside the paper's, cell by cell)
"""

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import recipes, table6


def get_config() -> ConfigDict:
    """Six rows at four ratios (App. C)."""
    config = recipes.cifar("table6", "cifar10", "resnet56", batch_size=128)
    title = "Table 6: step and cosine LR (ResNet56)"
    return recipes.step_or_cosine_rows(config, title, table=6, ratios=(0.3, 0.5, 0.7, 0.9))


quick = recipes.quick_ratios
sweep = table6.entries  # a run per row and ratio
