r"""Table 7: step and cosine LR, small and large, retraining and scratch; VGG19 on CIFAR100.

python run.py --config=configs/table7.py                  (as the paper; cifar100 must be prepared by TFDS)
python run.py --config=configs/table7.py --config.quick   (digits, MLP-7, every epoch count / 20)
python run.py --config=configs/table7.py --config.dataset.name=mnist5k --config.model.name=resnet8 \
    --config.shorten=10 --workdir=runs/table7_mnist5k
python -m prune_jax report runs/table7 --table=7          (ours beside the paper's, cell by cell)
"""

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import recipes, table6


def get_config() -> ConfigDict:
    """Six rows at four ratios (App. C)."""
    config = recipes.cifar("table7", "cifar100", "vgg19", batch_size=256)
    # The ratios are printed as 0.3 to 0.9: docs/errata.md, section 1.
    title = "Table 7: step and cosine LR (VGG19)"
    return recipes.step_or_cosine_rows(config, title, table=7, ratios=(0.1, 0.3, 0.5, 0.7))


quick = recipes.quick_ratios
sweep = table6.entries  # a run per row and ratio
