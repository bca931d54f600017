"""Comparison of runs: what each states (records), which setups hold, what may be concluded. Needs no JAX."""

from prune_jax.fairness.anomaly import Anomaly
from prune_jax.fairness.chance import at_chance, chance
from prune_jax.fairness.comparison import Comparison, compare
from prune_jax.fairness.cross_validation import CrossValidation, cross_validate
from prune_jax.fairness.jsv import JSVSummary
from prune_jax.fairness.letter_display import indistinct_sets, letters
from prune_jax.fairness.metrics import METRICS, Metric, value_text
from prune_jax.fairness.ranked_groups import Ranking, Rankings, comparable
from prune_jax.fairness.ranking import rank, rank_equal_compute, rank_retrainings
from prune_jax.fairness.record import (
    Axes,
    Costs,
    EpochMetrics,
    Optimiser,
    RoundCurve,
    RunRecord,
    SeedResult,
    Stage,
    Summary,
)
from prune_jax.fairness.setups import SETUPS, Verdict, strictest_setup
from prune_jax.fairness.significance import Sample, Welch, holm, welch
from prune_jax.fairness.storage import from_json, read, read_folder, to_json, write
from prune_jax.fairness.validation import validate, validate_pruningbench, validate_published

__all__ = [
    "METRICS",
    "SETUPS",
    "Anomaly",
    "Axes",
    "Comparison",
    "Costs",
    "CrossValidation",
    "EpochMetrics",
    "JSVSummary",
    "Metric",
    "Optimiser",
    "Ranking",
    "Rankings",
    "RoundCurve",
    "RunRecord",
    "Sample",
    "SeedResult",
    "Stage",
    "Summary",
    "Verdict",
    "Welch",
    "at_chance",
    "chance",
    "comparable",
    "compare",
    "cross_validate",
    "from_json",
    "holm",
    "indistinct_sets",
    "letters",
    "rank",
    "rank_equal_compute",
    "rank_retrainings",
    "read",
    "read_folder",
    "strictest_setup",
    "to_json",
    "validate",
    "validate_pruningbench",
    "validate_published",
    "value_text",
    "welch",
    "write",
]
