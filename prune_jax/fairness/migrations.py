"""Older record schemas. Version 0 is flat: one run, one row of plain fields, as in a spreadsheet.

Version 1 has the present shape without spectra and plateau rules.
"""

from typing import Any

from prune_jax.nearest import unknown

FLAT_KEYS = (
    "dataset", "network", "method", "ratio_spec", "F1", "F2", "params", "base_model_id", "pre_epochs",
    "pre_schedule", "prune_epochs", "prune_schedule", "ft_epochs", "ft_schedule", "seed", "acc", "base_acc",
)  # fmt: skip


def lift_flat(data: dict[str, Any]) -> dict[str, Any]:
    """Version 0 -> 1. F1 and F2 are MACs per sample, dense and pruned. ``params`` are those of the pruned net.

    Raises ValueError for an unknown key. What the row leaves out stays unstated.
    """
    for key in data:
        if key not in FLAT_KEYS:
            raise ValueError(unknown("key", key, FLAT_KEYS))
    get, base = data.get, data.get("base_model_id")
    lifted = {
        "name": get("method") or "unnamed",
        "dataset": get("dataset"),
        "network": get("network"),
        "method": get("method"),
        "axes": {"ratio": None if get("ratio_spec") is None else str(get("ratio_spec"))},
        "costs": {"dense_macs": get("F1"), "pruned_macs": get("F2"), "pruned_params": get("params")},
        "stages": [
            _stage("pretrain", get("pre_epochs"), get("pre_schedule"), base),
            _stage("sparsify", get("prune_epochs"), get("prune_schedule")),
            _stage("retrain", get("ft_epochs"), get("ft_schedule")),
        ],
    }
    if get("acc") is not None:
        result = {"seed": get("seed", 0), "last_accuracy": get("acc"), "base_accuracy": get("base_acc")}
        lifted["results"] = [result]
    return lifted


def lift_unmeasured(data: dict[str, Any]) -> dict[str, Any]:
    """Version 1 -> 2, which may hold spectra and plateau rules: what version 1 leaves out stays unstated."""
    return data


def lift_one_round(data: dict[str, Any]) -> dict[str, Any]:
    """Version 2 -> 3, which may hold several rounds and costs of each seed: a version 2 record has one round."""
    return data


def lift_untimed(data: dict[str, Any]) -> dict[str, Any]:
    """Version 3 -> 4, which may hold the seconds of sparsifying actions: of a version 3 record they are unstated."""
    return data


def lift_accuracies(data: dict[str, Any]) -> dict[str, Any]:
    """Version 4 -> 5, which may state a metric, latency, training FLOPs and further settings: until then unstated."""
    return data


def _stage(kind: str, epochs: Any, schedule: Any, base: Any = None) -> dict[str, Any]:
    ids = None if base is None else [base]
    return {"kind": kind, "ids": ids, "epochs": epochs, "schedule": schedule}
