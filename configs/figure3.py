r"""Figure 3: test accuracy along retraining, epoch by epoch, P30F90 at 1e-2 and P90F30 at 1e-4, with more epochs too.

python run.py --config=configs/figure3.py                  (ResNet34 on ImageNet100, as the paper)
python run.py --config=configs/figure3.py --config.quick   (digits, MLP-7, every epoch count / 30)
python run.py --config=configs/figure3.py --config.dataset.name=mnist5k --config.model.name=resnet8 \
    --config.shorten=10 --workdir=runs/figure3_mnist5k

The report draws a panel a run: LR drops as red verticals, the end of the unextended run's first stage as a
cross, and the paper's points where the epochs are the same. ImageNet100 is streamed from ImageNet as
TFDS prepares it; where that isn't there, the launch says the command.
"""

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import recipes, table4


def get_config() -> ConfigDict:
    """Four rows of Table 5, ratio 0.95."""
    return recipes.retraining_rows(
        "figure3",
        "Figure 3: accuracy along retraining",
        rows=(  # pruning epoch, retraining LR, extra epochs
            (30, 1e-2, 0),  # 3(1.a)
            (30, 1e-2, 60),  # 3(1.b)
            (90, 1e-4, 0),  # 3(2.a)
            (90, 1e-4, 1485),  # 3(2.b)
        ),
        sections=("retraining_curves", "beside_paper", "accuracy"),
    )


quick = recipes.quick_rows
sweep = table4.entries  # a run per row
