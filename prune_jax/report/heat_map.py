"""A table of numbers as a heat map: what a network is left with when one group alone is pruned."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from prune_jax.report.figures import save


def heat_map(
    names: Sequence[str], ratios: Sequence[float], values: np.ndarray, label: str, title: str, path: Path
) -> bool:
    """Draw ``values`` (N, R): a row for each name, a column for each pruning ratio. False without any.

    ``label`` says what a value is. Rows grow the figure, so that names stay legible.
    """
    if not len(names):
        return False
    figure = Figure(
        figsize=(1.8 + 0.6 * max(len(ratios), 6), 1.4 + 0.26 * max(len(names), 4)), layout="constrained"
    )
    axes = figure.subplots()
    image = axes.imshow(np.asarray(values, float), aspect="auto", cmap="viridis")
    axes.set_xticks(range(len(ratios)), [f"{ratio:g}" for ratio in ratios])
    axes.set_yticks(range(len(names)), list(names), fontsize=8)
    axes.set_xlabel("pruning ratio of the group alone")
    axes.set_title(title, fontsize=10)
    figure.colorbar(image, label=label)
    save(figure, path)
    return True
