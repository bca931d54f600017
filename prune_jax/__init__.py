"""Neural network pruning in JAX.

The public surface is the table below, and for type checkers ``__init__.pyi``. Names load on first use (PEP 562),
so that ``prune_jax.fairness`` and ``prune_jax.report`` work on a machine without JAX.
"""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

__version__ = "0.2.0"

# Module -> the names that it gives to the public surface.
_SURFACE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "prune_jax.pruning.coupling": ("Group", "Slice", "find_groups"),
        "prune_jax.pruning.criteria.table": ("Criterion",),
        "prune_jax.pruning.drawing.draw": ("draw",),
        "prune_jax.pruning.evidence": ("Evidence",),
        "prune_jax.pruning.module.pruned": ("Pruned",),
        "prune_jax.pruning.module.prune": ("prune",),
        "prune_jax.pruning.masks": ("apply_mask", "expand", "hold"),
        "prune_jax.pruning.surgery": ("shrink", "slim"),
        "prune_jax.pruning.recovery": ("orthp",),
        "prune_jax.pruning.cost": ("Cost", "count"),
        "prune_jax.pruning.latency": ("Latency", "latency"),
        "prune_jax.pruning.recalibration": ("recalibrate",),
        "prune_jax.pruning.shipping.export": ("export",),
        "prune_jax.pruning.shipping.loading": ("load",),
        "prune_jax.pruning.shipping.saving": ("save",),
        "prune_jax.trainability": (
            "Spectrum",
            "compare_trainability",
            "epochs_to",
            "equivalent_epochs",
            "isometry_gap",
            "isometry_gaps",
            "jacobian_singular_values",
            "mean_jsv",
            "spectrum",
            "trainability_accuracy",
        ),
        "prune_jax.fairness": ("RunRecord", "compare", "cross_validate", "strictest_setup", "validate"),
        "prune_jax.schedules": ("LRSchedule", "cosine", "halving"),
    }
)
_HOME: Mapping[str, str] = MappingProxyType(
    {name: module for module, names in _SURFACE.items() for name in names}
)
# Whole modules: every criterion, mask rule and regulariser by its name, and what turns scores into a keep.
_MODULES: Mapping[str, str] = MappingProxyType(
    {
        "allocation": "prune_jax.pruning.allocation",
        "criteria": "prune_jax.pruning.criteria.table",
        "mask_rules": "prune_jax.pruning.mask_rules.table",
        "regularizers": "prune_jax.pruning.regularizers.table",
    }
)

__all__ = sorted((*_HOME, *_MODULES))


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name not in _HOME:
        raise AttributeError(f"prune_jax has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
