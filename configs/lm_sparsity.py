"""Masks of a language model: unstructured 50 %, 2:4 and 4:8 by magnitude, Wanda, RIA and SparseGPT.

python run.py --config=configs/lm_sparsity.py
python run.py --config=configs/lm_sparsity.py --config.quick

All kernels of the blocks are masked, embeddings and head are not, as the methods' papers do. N:M removes along a
kernel's inputs, which is the axis that sparse tensor cores contract. Criteria that look at inputs go layer after
layer, as their papers have it, and all at once as the control. Without retraining what is compared is the mask.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import language
from prune_jax.pruning.criteria.table import CRITERIA
from prune_jax.pruning.evidence import DATA_FREE


def get_config() -> ConfigDict:
    """The decoder of ``lm_pruning_or_scratch.py`` at half of its weights, after no and a short retraining."""
    config = language.small_decoder("lm_sparsity")
    config.methods = ("l1", "wanda", "ria", "sparsegpt")
    config.granularities = ("unstructured", "2:4", "4:8")
    config.in_turn = (True, False)  # of criteria that look at inputs: layer after layer, or all at once
    config.sparsify.layers = ("blocks/*",)
    config.sparsify.ratio = 0.5
    config.pretrain.epochs, config.pretrain.schedule = 6, "0:3e-3,5:3e-4"
    config.retrain.epochs, config.retrain.schedule = 1, "0:3e-4"
    config.report.title = "Masks of a language model"
    config.report.sections = ("base", "method_ranking", "budgets", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: a tiny decoder, two seeds and criteria, 2:4 and unstructured, 2 short epochs."""
    del config
    return language.few_windows() | {
        "methods": ("l1", "sparsegpt"),
        "granularities": ("unstructured", "2:4"),
        "pretrain.epochs": 2,
        "pretrain.schedule": "0:3e-3,1:3e-4",
    }


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """A run per granularity, method and order of layers."""
    return [
        {
            "label": f"{method}{' in turn' if in_turn else ''}, {granularity}",
            "sparsify.criterion": method,
            "sparsify.granularity": granularity,
            "sparsify.in_turn": in_turn,
        }
        for granularity in config.granularities
        for method in config.methods
        for in_turn in (config.in_turn if CRITERIA[method].needs - DATA_FREE else (False,))
    ]
