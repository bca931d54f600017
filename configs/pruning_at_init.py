"""Pruning at initialisation: SNIP, GraSP, SynFlow, magnitude and random, beside scratch.

python run.py --config=configs/pruning_at_init.py
python run.py --config=configs/pruning_at_init.py --config.quick
python run.py --config=configs/pruning_at_init.py --config.ratios='(0.8,)' --workdir=runs/at_init_80

Filters are cut at one ratio for all layers, so that scratch, which trains a network of the same widths, is the control.
Single weights are masked by a global ranking, as the methods were published. There the random mask is the control.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import recipes

# Granularity -> how the ratio is shared out.
SHARED_OUT = {"filter": "uniform", "unstructured": "global"}


def get_config() -> ConfigDict:
    """ResNet-8 on scikit-learn's digits: random weights pruned at two ratios, filters and single weights."""
    config = recipes.resnet8_digits("pruning_at_init", seeds=5)
    config.pipeline = "prune_at_init"
    config.methods = ("snip", "grasp", "synflow", "l1", "random")
    config.iterated = ("synflow",)
    config.iterations = 100  # rounds of SynFlow within one action (arXiv 2006.05467)
    config.granularities = ("filter", "unstructured")
    config.masked_layers = ("blocks/*",)  # of single weights. Filters are pruned where the paper prunes them
    config.ratios = (0.5, 0.9)
    config.train = recipes.plan_of(8, "0:5e-2,5:5e-3")  # of what is pruned, and of scratch
    config.report.title = "Pruning at initialisation beside scratch (ResNet-8)"
    config.report.sections = ("method_ranking", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: two seeds, one ratio, two epochs, ten rounds of SynFlow."""
    del config
    return recipes.few_digits() | {
        "masked_layers": ("convs/*",),
        "ratios": (0.5,),
        "iterations": 10,
        "train.epochs": 2,
        "train.schedule": "0:5e-2,1:5e-3",
        "sparsify.evidence.batches": 2,
    }


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """A run per ratio, granularity and method; scratch beside the filters."""
    runs = []
    for ratio in config.ratios:
        for granularity in config.granularities:
            runs += [_run(config, ratio, granularity, method) for method in config.methods]
        if "filter" in config.granularities:
            runs.append(_scratch(config, ratio))
    return runs


def _run(config: ConfigDict, ratio: float, granularity: str, method: str) -> dict[str, Any]:
    return {
        "label": f"{method} {ratio:g}, {granularity}",
        "sparsify.criterion": method,
        "sparsify.iterations": config.iterations if method in config.iterated else 1,
        "sparsify.granularity": granularity,
        "sparsify.allocation": SHARED_OUT[granularity],
        "sparsify.layers": () if granularity == "filter" else config.masked_layers,
        "sparsify.ratio": ratio,
        "retrain.epochs": config.train.epochs,
        "retrain.schedule": config.train.schedule,
    }


def _scratch(config: ConfigDict, ratio: float) -> dict[str, Any]:
    return {
        "label": f"scratch {ratio:g}",
        "pipeline": "scratch",
        "sparsify.ratio": ratio,
        "scratch.epochs": config.train.epochs,
        "scratch.schedule": config.train.schedule,
    }
