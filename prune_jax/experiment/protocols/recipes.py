"""What several configs share: the paper's training recipes, rows of a kind, and the toy size of quick forms."""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.config.defaults import default_config


def imagenet(experiment: str, dataset: str, model: str) -> ConfigDict:
    """PyTorch's ImageNet example, which the paper follows (§4, App. A): SGD, batch 256, decay 1e-4,
    random resized crops and flips.
    """
    config = _recipe(experiment, dataset, model)
    config.optimizer.batch_size = 256
    config.optimizer.weight_decay = 1e-4
    config.dataset.flip = True
    return config


def cifar(experiment: str, dataset: str, model: str, batch_size: int) -> ConfigDict:
    """The CIFAR recipe of the paper's companion repositories: decay 5e-4, crops padded by 4, flips."""
    config = _recipe(experiment, dataset, model)
    config.optimizer.batch_size = batch_size
    config.optimizer.weight_decay = 5e-4
    config.dataset.crop_pad = 4
    config.dataset.flip = True
    return config


def resnet34_imagenet100(experiment: str) -> ConfigDict:
    """What Tables 4 and 5 and Figures 2 and 3 share: ResNet34, ImageNet100, scratch's schedule, the rules."""
    config = imagenet(experiment, "imagenet100", "resnet34")
    _scratchs_schedule(config)
    config.tables = (4, 5, 8)  # a row that two of them print fills a cell in both
    return config


def mlp7_mnist(experiment: str) -> ConfigDict:
    """What the configs of MLP-7-Linear share: orthogonal kernels, 100 hidden channels, 4,000 MNIST images."""
    config = default_config()
    config.experiment = experiment
    config.model.name = "mlp7_linear"
    config.model.options = ConfigDict({"init": "orthogonal", "hidden": 100})
    config.optimizer.weight_decay = 1e-4
    return config


def conv5_fashion(experiment: str, seeds: int) -> ConfigDict:
    """What the configs on Fashion-MNIST share: five convolutions with batch norm, 10,000 training images.

    All 10,000 test images measure accuracy, so its standard error is below half a point. Nothing is augmented.
    """
    config = default_config()
    config.experiment = experiment
    config.dataset.name = "fashion_mnist"
    config.dataset.train_examples = 10_000
    config.model.name = "conv5_bn"
    config.optimizer.batch_size = 100
    config.optimizer.weight_decay = 5e-4
    config.seeds = tuple(range(seeds))
    return config


def few_fashion() -> dict[str, Any]:
    """Quick values of ``conv5_fashion``: scikit-learn's 8x8 digits, narrow layers, two seeds."""
    return {
        "dataset.name": "digits",
        "dataset.train_examples": 300,
        "model.options": {"channels": (8, 16, 16, 20, 20), "strides": (1, 2, 1, 1, 2)},
        "seeds": (0, 1),
    }


def retraining_rows(
    experiment: str, title: str, rows: Sequence[tuple[int, float, int]], sections: tuple[str, ...]
) -> ConfigDict:
    """Rows of Table 5, which Figures 2 and 3 show epoch by epoch, at ratio 0.95. ``table4.entries`` sweeps them.

    A row is its pruning epoch, its initial retraining LR and how many epochs more than scratch it trains.
    """
    config = resnet34_imagenet100(experiment)
    config.ratios = (0.95,)
    config.rows = tuple(rows)
    config.report.title = title
    config.report.sections = sections
    return config


def step_or_cosine_rows(config: ConfigDict, title: str, table: int, ratios: tuple[float, ...]) -> ConfigDict:
    """``config`` with the rows of Table 6 or 7 (App. C) at ``ratios``. ``table6.entries`` sweeps them."""
    config.ratios = ratios
    config.dense = plan_of(200, "0:1e-1,100:1e-2,150:1e-3")  # the base model's and scratch's
    config.retrain_epochs = 120
    config.retrain_lrs = (1e-3, 1e-2)
    config.final_lr = 1e-4  # where retraining ends
    config.tables = (table,)
    config.report.title = title
    config.report.sections = ("beside_paper", "base", "accuracy")
    return config


def plan_of(epochs: int, schedule: str) -> ConfigDict:
    """Epochs and LR schedule as a section of a config, for sweeps that make their stages from it."""
    return ConfigDict({"epochs": epochs, "schedule": schedule})


def toy(shorten: float) -> dict[str, Any]:
    """Quick values: scikit-learn's digits, the seven-layer MLP, two seeds, all epochs divided.

    They exercise every row and the report. An MLP pruned this hard shows no effect of the paper's.
    """
    return {
        "dataset.name": "digits",
        "dataset.mean": (),
        "dataset.std": (),
        "dataset.crop_pad": 0,
        "dataset.flip": False,  # a mirrored digit is none
        "model.name": "mlp7_relu",
        "optimizer.batch_size": 32,
        "optimizer.momentum": 0.0,  # without batch norm an LR of 0.1 needs it
        "seeds": (0, 1),
        "shorten": shorten,
    }


def quick_rows(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: all rows, every epoch count divided by 30."""
    del config
    return toy(shorten=30)


def quick_ratios(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: all rows at the second and third ratio, every epoch count divided by 20."""
    return toy(shorten=20) | {"ratios": config.ratios[1:3]}


def resnet8_digits(experiment: str, seeds: int) -> ConfigDict:
    """What the configs that compare methods share: ResNet-8 on scikit-learn's digits, JSV before and after stages."""
    config = default_config()
    config.experiment = experiment
    config.dataset.name = "digits"
    config.model.name = "resnet8"
    config.optimizer.weight_decay = 5e-4
    config.seeds = tuple(range(seeds))
    config.pretrain.epochs = 10
    config.pretrain.schedule = "0:5e-2,6:5e-3"
    config.measure.jsv = True
    config.measure.every = 1000  # before and after the stages alone
    config.measure.examples = 100
    return config


def few_digits() -> dict[str, Any]:
    """Quick values of ``resnet8_digits``: narrow convolutions, two seeds, a part of the images, three epochs."""
    return {
        "model.name": "conv5_bn",
        "model.options": {"channels": (8, 8, 16, 16, 16), "strides": (1, 2, 1, 1, 2)},
        "report.title": "Quick form, five narrow convolutions",
        "seeds": (0, 1),
        "dataset.train_examples": 300,
        "pretrain.epochs": 3,
        "pretrain.schedule": "0:5e-2,2:5e-3",
        "measure.examples": 20,
    }


def table4_rows(config: ConfigDict) -> None:
    """Give ``config`` the paper's twelve rows and the schedule that they share. ``table4.all_rows`` sweeps them."""
    _scratchs_schedule(config)
    config.same_schedule = (15, 30, 45, 60, 75, 90)  # pruning epochs
    config.same_epochs = ((30, 1e-1), (60, 1e-2), (90, 1e-2))  # SX-A: pruning epoch, retraining LR
    config.same_compute = (
        (90, 1e-1),
        (90, 1e-2),
    )  # SX-B: retraining epochs and LR. Before them 30/k dense ones


def _scratchs_schedule(config: ConfigDict) -> None:
    config.overall = plan_of(120, "0:1e-1,30:1e-2,60:1e-3,90:1e-4,105:1e-5")
    config.final_lr = 1e-5  # where the halving rule ends (App. A)
    config.longest_stage = 30  # and its cap on a stage


def _recipe(experiment: str, dataset: str, model: str) -> ConfigDict:
    config = default_config()
    config.experiment = experiment
    config.dataset.name = dataset
    config.model.name = model
    config.optimizer.momentum = 0.9
    config.seeds = (0, 1, 2)  # the paper: at least three runs
    config.shorten = 1.0  # divides every number of epochs, for a run at toy size
    return config
