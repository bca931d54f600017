"""Every criterion by the name that a config gives it; the contract test runs over this table."""

from collections.abc import Mapping
from types import MappingProxyType

from prune_jax.pruning.criteria import gradient, magnitude
from prune_jax.pruning.criteria.criterion import Criterion, channel_scores, missing, weight_scores

__all__ = ["CRITERIA", "Criterion", "channel_scores", "missing", "weight_scores"]

CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {
        "l1": Criterion(magnitude.l1, "weight"),
        "l2": Criterion(magnitude.l2, "weight", channels=magnitude.l2_of_channels),
        "largest": Criterion(magnitude.largest, "weight"),
        "random": Criterion(
            magnitude.random, "weight", frozenset({"key"}), channels=magnitude.random_of_channels
        ),
        "taylor": Criterion(
            gradient.taylor, "weight", frozenset({"grads"}), channels=gradient.taylor_of_channels
        ),
    }
)
