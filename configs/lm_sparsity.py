"""Masks of a language model: unstructured 50 %, 2:4 and 4:8 by magnitude, Wanda, RIA and SparseGPT.

python run.py --config=configs/lm_sparsity.py
python run.py --config=configs/lm_sparsity.py --config.quick

All kernels of the blocks are masked, embeddings and head are not, as the methods' papers do. N:M removes along a
kernel's inputs, which is the axis that sparse tensor cores contract. Without retraining what is compared is the mask.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import language


def get_config() -> ConfigDict:
    """The decoder of ``lm_pruning_or_scratch.py`` at half of its weights, after no and a short retraining."""
    config = language.small_decoder("lm_sparsity")
    config.methods = ("l1", "wanda", "ria", "sparsegpt")
    config.granularities = ("unstructured", "2:4", "4:8")
    config.sparsify.layers = ("blocks/*",)
    config.sparsify.ratio = 0.5
    config.pretrain.epochs, config.pretrain.schedule = 6, "0:3e-3,5:3e-4"
    config.retrain.epochs, config.retrain.schedule = 1, "0:3e-4"
    config.report.title = "Masks of a language model"
    config.report.sections = ("base", "method_ranking", "budgets", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: a tiny decoder, two seeds, 2:4 beside unstructured, 2 short epochs."""
    del config
    return language.few_windows() | {
        "granularities": ("unstructured", "2:4"),
        "pretrain.epochs": 2,
        "pretrain.schedule": "0:3e-3,1:3e-4",
    }


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """A run per granularity and method."""
    return [
        {
            "label": f"{method}, {granularity}",
            "sparsify.criterion": method,
            "sparsify.granularity": granularity,
        }
        for granularity in config.granularities
        for method in config.methods
    ]
