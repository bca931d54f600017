r"""Table 5 (and 8): a small retraining LR catches up when it gets more epochs, all in its first LR stage.

python run.py --config=configs/table5.py                  (ResNet34 on ImageNet100, as the paper)
python run.py --config=configs/table5.py --config.quick   (digits, MLP-7, every epoch count / 30)
python run.py --config=configs/table5.py --config.dataset.name=mnist5k --config.model.name=resnet8 \
    --config.shorten=10 --workdir=runs/table5_mnist5k
python -m prune_jax report runs/table5 --table=5          (and --table=8, its last five rows)

ImageNet100 is streamed from ImageNet as TFDS prepares it; where that isn't there, the launch says the command.
Its 100 classes are drawn with --config.dataset.classes_seed or listed in --config.dataset.classes_file.
"""

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import recipes, table4


def get_config() -> ConfigDict:
    """Fourteen rows at ratio 0.95, with trainability accuracy, Eq. (1), read off each curve."""
    return recipes.retraining_rows(
        "table5",
        "Table 5: more epochs for a small retraining LR",
        rows=(  # pruning epoch, retraining LR, extra epochs
            (30, 1e-1, 0),
            (30, 1e-2, 0),
            (30, 1e-2, 30),
            (30, 1e-2, 60),
            (60, 1e-2, 0),
            (60, 1e-3, 0),
            (60, 1e-3, 60),
            (60, 1e-3, 120),
            (60, 1e-3, 180),
            (90, 1e-2, 0),
            (90, 1e-4, 0),
            (90, 1e-4, 60),
            (90, 1e-4, 270),
            (90, 1e-4, 1485),
        ),
        sections=("beside_paper", "retraining_curves", "accuracy"),
    )


quick = recipes.quick_rows
sweep = table4.entries  # a run per row
