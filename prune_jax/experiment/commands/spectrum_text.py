"""What ``python -m prune_jax spectrum`` prints: a spectrum's statistics, and how far kernels are from isometries."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from prune_jax import trainability
from prune_jax.text_table import aligned

STATISTICS = (
    ("mean", "mean"),
    ("std", "std"),
    ("max", "max"),
    ("min (resolved)", "min"),
    ("condition (resolved)", "condition"),
    ("mean of (s - 1)^2", "isometry_gap"),
    ("log det J J^T", "log_determinant"),
)


def table(spectrum: trainability.Spectrum) -> str:
    """A line for each statistic: the value over all examples pooled, and the mean over examples ± standard error."""
    rows = [["", "pooled", "mean over examples ± s.e."]]
    for label, field in STATISTICS:
        each = getattr(spectrum.per_example, field)
        known = each[np.isfinite(each)]
        mean = (
            f"{getattr(spectrum.means, field):.5g} ± {getattr(spectrum.errors, field):.2g}"
            if len(known)
            else "none is resolved"
        )
        rows.append([label, f"{getattr(spectrum.pooled, field):.5g}", mean])
    for place, probability in enumerate(spectrum.at):
        rows.append([f"quantile {probability:g}", f"{spectrum.pooled.quantiles[place]:.5g}", ""])
    values = spectrum.values.size
    lost = int(spectrum.unresolved.sum())
    rows.append(["resolved", f"{values - lost} of {values}", f"rank {spectrum.rank.mean():.4g} on average"])
    note = f"Singular values below {spectrum.resolution:.2g} of their example's largest are not resolved."
    return f"{aligned(rows)}\n{note}"


def weights_table(states: Mapping[str, Any], gain: float) -> str:
    """A line for each kernel, a column for each of the params: isometry gaps, and their means over kernels.

    ``states`` names params with kernels at the same paths, ``gain`` is what counts as an isometry: see
    ``trainability.isometry_table``.
    """
    gaps = trainability.isometry_table(states, gain=gain)
    rows = [["kernel", *states]]
    rows += [[path, *(f"{float(row[name]):.4g}" for name in states)] for path, row in gaps.items()]
    means = (np.mean([float(row[name]) for row in gaps.values()]) for name in states)
    rows.append(["mean over kernels", *(f"{mean:.4g}" for mean in means)])
    note = "Mean of (s - 1)^2 over the singular values s of each kernel" + (
        "." if gain == 1 else f" / {gain:g}, the gain that recovery gave them."
    )
    return f"{aligned(rows)}\n{note}"
