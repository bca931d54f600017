"""Trainability: Jacobian singular values and trainability accuracy."""

from prune_jax.trainability.accuracy import trainability_accuracy
from prune_jax.trainability.jacobian import jacobian_singular_values, jacobians, mean_jsv

__all__ = ["jacobian_singular_values", "jacobians", "mean_jsv", "trainability_accuracy"]
