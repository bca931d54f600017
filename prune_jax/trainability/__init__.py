"""Trainability: Jacobian singular values and trainability accuracy.

Names load on first use, so that a report reads ``trainability_accuracy`` on a machine without JAX. Type checkers read
``__init__.pyi``.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "bypassed": "prune_jax.trainability.parts",
    "check_finite": "prune_jax.trainability.checks",
    "compare_trainability": "prune_jax.trainability.accuracy",
    "epochs_to": "prune_jax.trainability.accuracy",
    "equivalent_epochs": "prune_jax.trainability.accuracy",
    "Estimate": "prune_jax.trainability.operators",
    "feature_rank": "prune_jax.trainability.features",
    "gradient_flow": "prune_jax.trainability.learning",
    "hessian_vector_product": "prune_jax.trainability.learning",
    "isometry_gap": "prune_jax.trainability.isometry",
    "isometry_gaps": "prune_jax.trainability.isometry",
    "isometry_table": "prune_jax.trainability.isometry",
    "jacobian_isometry_gap": "prune_jax.trainability.isometry",
    "jacobian_singular_values": "prune_jax.trainability.jacobian",
    "jacobians": "prune_jax.trainability.jacobian",
    "largest_jsv": "prune_jax.trainability.krylov",
    "log_determinant_by_quadrature": "prune_jax.trainability.quadrature",
    "mean_jsv": "prune_jax.trainability.jacobian",
    "mean_jsv_by_quadrature": "prune_jax.trainability.quadrature",
    "mean_jsv_estimate": "prune_jax.trainability.mean_estimate",
    "mean_squared_jsv": "prune_jax.trainability.operators",
    "measure_modules": "prune_jax.trainability.parts",
    "measure_stages": "prune_jax.trainability.parts",
    "module_input": "prune_jax.trainability.parts",
    "module_part": "prune_jax.trainability.parts",
    "ntk_matrix": "prune_jax.trainability.learning",
    "ntk_product": "prune_jax.trainability.learning",
    "ntk_spectrum": "prune_jax.trainability.learning",
    "ntk_top": "prune_jax.trainability.learning",
    "ntk_trace": "prune_jax.trainability.learning",
    "orthogonality_error": "prune_jax.trainability.isometry",
    "over_examples": "prune_jax.trainability.quadrature",
    "Plan": "prune_jax.trainability.mean_estimate",
    "plan_mean_jsv": "prune_jax.trainability.mean_estimate",
    "smallest_jsv": "prune_jax.trainability.krylov",
    "spectral_density": "prune_jax.trainability.quadrature",
    "spectrum": "prune_jax.trainability.spectra",
    "Spectrum": "prune_jax.trainability.spectra",
    "stage_part": "prune_jax.trainability.parts",
    "Statistics": "prune_jax.trainability.spectra",
    "summarize": "prune_jax.trainability.spectra",
    "trainability_accuracy": "prune_jax.trainability.accuracy",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(
            f"prune_jax.trainability has no attribute {name!r}; it offers {', '.join(__all__)}"
        )
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
