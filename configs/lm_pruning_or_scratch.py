"""Pruning or training from scratch: a byte-level language model, at matched tokens (SX-A) and matched FLOPs (SX-B).

python run.py --config=configs/lm_pruning_or_scratch.py
python run.py --config=configs/lm_pruning_or_scratch.py --config.quick
python run.py --config=configs/lm_pruning_or_scratch.py --config.dataset.name=text_folder --config.dataset.data_dir=DIR

The question is that of arXiv 2606.14150. An epoch is the same tokens for every run. So as many epochs in all as scratch
are as many tokens, and the epochs of each stage times its network's MACs are FLOPs. Heads go by key and value head with
the queries that read it; the inner channels of the MLPs go at the same ratio.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import language, recipes, speedups, table4


def get_config() -> ConfigDict:
    """A decoder of a million parameters on the standard library's sources: four methods at two ratios, three seeds."""
    config = language.small_decoder("lm_pruning_or_scratch")
    config.methods = ("l1", "taylor", "activation", "wanda")
    config.same_compute_methods = ("taylor",)
    config.ratios = (0.25, 0.5)
    config.overall = recipes.plan_of(8, "0:3e-3,6:3e-4")  # scratch's
    config.prune_at, config.retrain_lr = 4, 3e-3
    config.final_lr, config.longest_stage, config.shorten = 3e-4, 30, 1.0
    config.report.title = "Pruning or scratch: a language model at matched tokens and FLOPs"
    config.report.sections = ("budgets", "method_ranking", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: a tiny decoder, two seeds, one ratio, one method, 4 short epochs."""
    del config
    return language.few_windows() | {
        "methods": ("l1",),
        "same_compute_methods": ("l1",),
        "ratios": (0.5,),
        "overall.epochs": 4,  # at this network's speedup of 1.5 two dense epochs cost what three small ones do
        "overall.schedule": "0:3e-3",
        "prune_at": 2,
        "final_lr": 3e-3,
    }


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """Per ratio: scratch; each method at scratch's tokens, some of them at its FLOPs."""
    protocol, spec = table4.protocol_of(config), speedups.spec_of(config)
    runs = []
    for ratio in config.ratios:
        runs.append(_named(table4.scratch(protocol), ratio, "scratch"))
        tokens = table4.same_epochs(protocol, config.prune_at, config.retrain_lr)
        runs += [_named(tokens, ratio, method) for method in config.methods]
        k = speedups.speedup(spec, (), ratio)
        after = language.epochs_after(protocol.overall.epochs, config.prune_at, k)
        compute = table4.same_compute(protocol, after, config.retrain_lr, k)
        runs += [_named(compute, ratio, method) for method in config.same_compute_methods]
    return runs


def _named(row: table4.Row, ratio: float, method: str) -> dict[str, Any]:
    entry = table4.overrides(row, ratio)
    if method == "scratch":
        return entry | {"label": f"scratch {ratio:g}"}
    return entry | {"label": f"{method} {ratio:g}, {row.regime}", "sparsify.criterion": method}
