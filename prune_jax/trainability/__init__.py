"""Trainability: Jacobian singular values and trainability accuracy.

Names load on first use, so that a report reads ``trainability_accuracy`` on a machine without JAX. Type checkers read
``__init__.pyi``.
"""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

# File -> the public names in it.
_SURFACE: Mapping[str, str] = MappingProxyType(
    {
        "accuracy": "compare_trainability epochs_to equivalent_epochs trainability_accuracy",
        "checks": "check_finite",
        "features": "feature_rank",
        "isometry": "isometry_gap isometry_gaps isometry_table jacobian_isometry_gap orthogonality_error",
        "jacobian": "jacobian_singular_values jacobians mean_jsv",
        "krylov": "largest_jsv smallest_jsv",
        "learning": "gradient_flow hessian_vector_product ntk_matrix ntk_product ntk_spectrum ntk_top ntk_trace",
        "mean_estimate": "Plan mean_jsv_estimate plan_mean_jsv",
        "operators": "Estimate mean_squared_jsv over_examples",
        "parts": "bypassed measure_modules measure_stages module_input module_part stage_part",
        "quadrature": "log_determinant_by_quadrature mean_jsv_by_quadrature spectral_density",
        "spectra": "Spectrum Statistics spectrum summarize",
    }
)
_HOME = {name: f"{__name__}.{file}" for file, names in _SURFACE.items() for name in names.split()}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"{__name__} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
