"""Masks of single weights: magnitude, Wanda, RIA, SparseGPT and N:M, before and after a short retraining.

python run.py --config=configs/unstructured.py
python run.py --config=configs/unstructured.py --config.quick
python run.py --config=configs/unstructured.py --config.patterns="('2:4',)" --workdir=runs/two_of_four

N:M removes what its pattern says. So that it is ranked at an equal rate, magnitude without a pattern is run at the
same ratio beside it. The patterns fit 16 input channels: 3:16, 1:8 and 1:16 are the nearest to 80, 90 and 95 %.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import recipes


def get_config() -> ConfigDict:
    """ResNet-8 on scikit-learn's digits: the convolutions of its blocks at four ratios, the same in every layer."""
    config = recipes.resnet8_digits("unstructured", seeds=5)
    config.sparsify.layers = ("blocks/*",)
    config.methods = ("random", "l1", "wanda", "ria", "sparsegpt")
    config.ratios = (0.5, 0.8, 0.9, 0.95)
    config.patterns = ("2:4", "3:16", "1:8", "1:16")
    config.pattern_criterion = "l1"
    config.retrain.epochs = 2
    config.retrain.schedule = "0:1e-2,1:1e-3"
    config.report.title = "Masks of single weights (ResNet-8)"
    config.report.sections = ("base", "method_ranking", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: two seeds, one ratio and pattern, one retraining epoch."""
    del config
    return recipes.few_digits() | {
        "sparsify.layers": ("convs/[1-9]",),  # all but the first
        "ratios": (0.5,),
        "patterns": ("2:4",),
        "retrain.epochs": 1,
        "retrain.schedule": "0:1e-2",
        "sparsify.evidence.batches": 2,
    }


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """A run per ratio and method; per pattern N:M, and magnitude at its ratio where no other run is."""
    runs = [_run(method, ratio) for ratio in config.ratios for method in config.methods]
    for pattern in config.patterns:
        stay, of = map(int, pattern.split(":"))
        ratio = 1 - stay / of
        runs.append(_run(config.pattern_criterion, ratio, pattern))
        if ratio not in config.ratios or config.pattern_criterion not in config.methods:
            runs.append(_run(config.pattern_criterion, ratio))
    return runs


def _run(method: str, ratio: float, granularity: str = "unstructured") -> dict[str, Any]:
    return {
        "label": f"{method} {ratio:g}, {granularity}",
        "sparsify.criterion": method,
        "sparsify.granularity": granularity,
        "sparsify.ratio": ratio,
    }
