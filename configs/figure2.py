r"""Figure 2: test accuracy along retraining, epoch by epoch, P60F60 at LR 1e-3, with 180 more epochs too.

python run.py --config=configs/figure2.py                  (ResNet34 on ImageNet100, as the paper)
python run.py --config=configs/figure2.py --config.quick   (digits, MLP-7, every epoch count / 30)
python run.py --config=configs/figure2.py --config.dataset.name=mnist5k --config.model.name=resnet8 \
    --config.shorten=10 --workdir=runs/figure2_mnist5k

The report draws a panel a run: LR drops as red verticals, the end of the unextended run's first stage as a
cross, and the paper's points where the epochs are the same. ImageNet100 is streamed from ImageNet as
TFDS prepares it; where that isn't there, the launch says the command.
"""

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import recipes, table4


def get_config() -> ConfigDict:
    """Two rows of Table 5, ratio 0.95."""
    return recipes.retraining_rows(
        "figure2",
        "Figure 2: accuracy along retraining",
        rows=(  # pruning epoch, retraining LR, extra epochs
            (60, 1e-3, 0),  # 2(a)
            (60, 1e-3, 180),  # 2(b)
        ),
        sections=("retraining_curves", "beside_paper", "accuracy"),
    )


quick = recipes.quick_rows
sweep = table4.entries  # a run per row
