"""Comparison of runs: what each states (records), which setups hold, what may be concluded. Needs no JAX."""

from prune_jax.fairness.record import (
    Axes,
    Costs,
    EpochMetrics,
    Optimiser,
    RunRecord,
    SeedResult,
    Stage,
    Summary,
)
from prune_jax.fairness.storage import from_json, read, read_folder, to_json, write
from prune_jax.fairness.welch import Sample, Welch, welch

__all__ = [
    "Axes",
    "Costs",
    "EpochMetrics",
    "Optimiser",
    "RunRecord",
    "Sample",
    "SeedResult",
    "Stage",
    "Summary",
    "Welch",
    "from_json",
    "read",
    "read_folder",
    "to_json",
    "welch",
    "write",
]
