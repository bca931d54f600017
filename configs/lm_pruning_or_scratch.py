"""Pruning or training from scratch: a byte-level language model, at matched tokens (SX-A) and matched FLOPs (SX-B).

python run.py --config=configs/lm_pruning_or_scratch.py
python run.py --config=configs/lm_pruning_or_scratch.py --config.quick
python run.py --config=configs/lm_pruning_or_scratch.py --config.dataset.name=text_folder --config.dataset.data_dir=DIR

The question is that of arXiv 2606.14150. Four things are removed, each by itself: heads (a key and value head with the
queries that read it), inner channels of the MLPs, residual channels, whole blocks. A network with fewer heads is
another one than a network with fewer blocks. So each has its own scratch, of the very architecture that pruning leaves.

An epoch is the same tokens for every run. So as many epochs in all as scratch are as many tokens, and the epochs of
each stage times its network's MACs are FLOPs. An epoch is short, 256 windows or 32 KiB of text, so that all 24 runs of
three seeds, 1.1e14 training FLOPs, take about an hour of two CPU cores. ``--config.dataset.train_examples`` sets it.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import language, recipes, table4


def get_config() -> ConfigDict:
    """A decoder of a million parameters on the standard library's sources: four removals at two ratios, three seeds."""
    config = language.small_decoder("lm_pruning_or_scratch")
    config.dataset.train_examples = 256  # windows of an epoch: 32,768 bytes
    # What is removed, and by which criterion. Each may set any key of `sparsify`.
    config.removals = ConfigDict(
        {
            "heads": {"layers": ("blocks/*attention/q",), "criterion": "taylor"},
            "inner": {"layers": ("blocks/*mlp/gate",), "criterion": "activation"},
            "residual": {"layers": ("embed",), "criterion": "activation"},
            "depth": {"granularity": "depth", "criterion": "block_influence"},
        }
    )
    config.removed = ("heads", "inner", "residual", "depth")
    config.ratios = (0.25, 0.5)
    config.overall = recipes.plan_of(12, "0:3e-3,9:3e-4")  # scratch's
    config.prune_at, config.retrain_lr = 6, 3e-3
    config.final_lr, config.longest_stage, config.shorten = 3e-4, 30, 1.0
    config.report.title = "Pruning or scratch: a language model at matched tokens and FLOPs"
    config.report.sections = ("budgets", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: a tiny decoder, two seeds, one ratio, two removals, 6 short epochs."""
    del config
    return language.few_windows() | {
        "removed": ("heads", "depth"),
        "ratios": (0.5,),
        "overall.epochs": 6,
        "overall.schedule": "0:3e-3",
        "prune_at": 3,
        "final_lr": 3e-3,
    }


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """Per ratio and removal: scratch of what is left, and pruning at scratch's tokens and at its FLOPs."""
    protocol = table4.protocol_of(config)
    wanted, after = protocol.overall.epochs - config.prune_at, {}
    runs, seen = [], set()
    for ratio in config.ratios:
        for name in config.removed:
            action = language.removal(config, name, ratio)
            left = language.what_is_left(config, action)
            if left.widths not in seen:  # two criteria leave one architecture
                runs.append(_named(table4.scratch(protocol), ratio, f"scratch as {name} {ratio:g}", action))
                seen.add(left.widths)
                after[left.widths] = language.epochs_after(protocol.overall.epochs, wanted, left.speedup)
            tokens = table4.same_epochs(protocol, config.prune_at, config.retrain_lr)
            flops = table4.same_compute(protocol, after[left.widths], config.retrain_lr, left.speedup)
            runs += [_named(row, ratio, f"{name} {ratio:g}, {row.regime}", action) for row in (tokens, flops)]
    return runs


def _named(row: table4.Row, ratio: float, label: str, action: dict[str, Any]) -> dict[str, Any]:
    return table4.overrides(row, ratio) | action | {"label": label}
