"""Figures of a report, each a function of records that writes one PNG."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from prune_jax import atomic
from prune_jax.fairness import RunRecord
from prune_jax.report import reading

# Blue for the largest LR, orange for the next, then green and purple: told apart without red and green.
COLORS = ("#0b6fb8", "#e07b00", "#3f8f5b", "#7a5195")
MARKERS = ("o", "s", "^", "D")


def accuracy_vs_epochs(records: Sequence[RunRecord], path: Path) -> bool:
    """Final test accuracy against the number of retraining epochs, a line per initial LR; False without data."""

    def draw(axes: Any, group: Sequence[RunRecord]) -> None:
        for i, lr in enumerate(_lrs(group)):
            runs = sorted((r for r in group if reading.initial_lr(r) == lr), key=reading.epochs)
            values = [np.array(r.accuracies) for r in runs]
            axes.errorbar(
                [reading.epochs(r) for r in runs],
                [v.mean() for v in values],
                yerr=[v.std(ddof=1) if len(v) > 1 else 0.0 for v in values],
                **_style(i, f"LR {lr:g}"),
            )
        counts = sorted({reading.epochs(r) for r in group})
        axes.set_xscale("log")
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.set_xlabel("retraining epochs")
        axes.set_ylabel("test accuracy after retraining (%)")

    return _panels(records, path, draw)


def jsv_along_retraining(records: Sequence[RunRecord], path: Path) -> bool:
    """Mean JSV along the longest retraining of each LR, logarithmic, with the dense network's level."""
    measured = [record for record in records if reading.has(record, "mean_jsv")]

    def draw(axes: Any, group: Sequence[RunRecord]) -> None:
        for i, record in enumerate(longest_of_each_lr(group)):
            at, values = reading.through_rounds(record, "mean_jsv")
            band(axes, at, values, i, f"LR {reading.initial_lr(record):g}")
        bases = [r.base_mean_jsv for record in group for r in record.results if r.base_mean_jsv]
        if bases:
            axes.axhline(float(np.mean(bases)), color="0.35", linestyle=":", label="dense, before pruning")
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("retraining epoch (0: right after pruning)")
        axes.set_ylabel("mean Jacobian singular value")

    return _panels(measured, path, draw)


def accuracy_along_retraining(records: Sequence[RunRecord], path: Path) -> bool:
    """Test accuracy per epoch of the longest run of each LR, its LR drops as red verticals (as Fig. 2)."""

    def draw(axes: Any, group: Sequence[RunRecord]) -> None:
        for i, record in enumerate(longest_of_each_lr(group)):
            at, values = reading.through_rounds(record, "test_accuracy")
            band(axes, at, values, i, f"LR {reading.initial_lr(record):g}")
            for start in reading.lr_drops(record):
                axes.axvline(start, color="#c0392b", linewidth=0.9, linestyle=("-", "--", ":", "-.")[i % 4])
        axes.plot([], [], color="#c0392b", linewidth=0.9, label="LR drop (same dash as its curve)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("retraining epoch")
        axes.set_ylabel("test accuracy (%)")

    return _panels(records, path, draw)


def pruned_vs_scratch(records: Sequence[RunRecord], path: Path) -> bool:
    """Test accuracy against the pruning ratio, a line per regime and one for scratch; False without data."""
    regimes = sorted({_regime(record) for record in records}, key=lambda name: (name != "scratch", name))
    if not records:
        return False
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    for i, regime in enumerate(regimes):
        best: dict[float, np.ndarray] = {}
        for record in (r for r in records if _regime(r) == regime):
            ratio, values = float(str(record.axes.ratio)), np.array(record.accuracies)
            if ratio not in best or values.mean() > best[ratio].mean():
                best[ratio] = values
        at = sorted(best)
        errors = [best[r].std(ddof=1) if len(best[r]) > 1 else 0.0 for r in at]
        axes.errorbar(at, [best[r].mean() for r in at], yerr=errors, **_style(i, regime))
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0.0), min(high, 100.0))  # an error bar may reach past what an accuracy can
    axes.set_xlabel("pruning ratio (fraction of filters removed)")
    axes.set_ylabel("test accuracy (%), best run of each regime")
    axes.legend()
    save(figure, path)
    return True


def _regime(record: RunRecord) -> str:
    return "scratch" if record.method == "scratch" else str(record.config.get("regime") or record.method)


def _panels(
    records: Sequence[RunRecord], path: Path, draw: Callable[[Any, Sequence[RunRecord]], None]
) -> bool:
    """One panel per family (ratio and method); False when there is nothing to draw."""
    families = reading.families(records)
    if not families:
        return False
    columns = min(len(families), 2)
    rows = -(-len(families) // columns)
    figure = Figure(figsize=(5.4 * columns, 3.1 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, ((ratio, method), group) in zip(grid, families.items(), strict=False):
        draw(axes, group)
        axes.set_title(f"pruning ratio {ratio}, {method}")
        axes.grid(alpha=0.25)
        axes.legend()
    for axes in grid[len(families) :]:
        axes.remove()
    save(figure, path)
    return True


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG at README size, whole or not at all, its folder included."""
    with mpl.rc_context({"font.size": 11}), atomic.writing(path) as file:
        figure.savefig(file, dpi=130, format="png")


def _lrs(group: Sequence[RunRecord]) -> list[float]:
    return sorted({reading.initial_lr(record) for record in group}, reverse=True)


def longest_of_each_lr(group: Sequence[RunRecord]) -> list[RunRecord]:
    """The longest run of each initial LR, largest LR first."""
    return [max((r for r in group if reading.initial_lr(r) == lr), key=reading.epochs) for lr in _lrs(group)]


def band(axes: Any, at: np.ndarray, values: np.ndarray, i: int, label: str) -> None:
    """The mean over seeds as a line in the i-th style, their range as a band."""
    mean = values.mean(0)
    style = _style(i, label)
    axes.plot(at, mean, **{k: style[k] for k in ("color", "label", "linestyle")})
    axes.fill_between(at, values.min(0), values.max(0), color=style["color"], alpha=0.2, linewidth=0)


def _style(i: int, label: str) -> dict[str, Any]:
    return {
        "color": COLORS[i % len(COLORS)],
        "marker": MARKERS[i % len(MARKERS)],
        "linestyle": ("-", "--", ":", "-.")[i % 4],
        "capsize": 3,
        "label": label,
    }
