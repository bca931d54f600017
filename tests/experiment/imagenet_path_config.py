"""ImageNet100 as Table 4's config reads it, at toy size: a few steps of pretraining, pruning and retraining.

python run.py --config=tests/experiment/imagenet_path_config.py --config.dataset.data_dir=FOLDER
"""

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import recipes


def get_config() -> ConfigDict:
    """PyTorch's ImageNet recipe at 32 pixels: ResNet34, one epoch a stage."""
    config = recipes.imagenet("imagenet_path", "imagenet100", "resnet34")
    config.dataset.size, config.dataset.resize = 32, 36
    config.dataset.workers = 0  # a thread, however many CPUs there are: the images are small
    config.optimizer.batch_size = 100
    config.seeds = (0,)
    config.pretrain.epochs = config.retrain.epochs = config.scratch.epochs = 1
    config.report.interactive = False
    return config
