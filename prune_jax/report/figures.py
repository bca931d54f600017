"""Figures of a report, each a function of records that writes one PNG, and the same as PDF beside it."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from prune_jax import atomic
from prune_jax.fairness import RunRecord
from prune_jax.report import reading

# Okabe and Ito's blue, vermillion, green and purple: told apart by people who see no red or no green, and in grey.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "^", "D")
LINES = ("-", "--", ":", "-.")
DROP = "0.35"
JSV = "mean Jacobian\nsingular value"  # in one line it is longer than a panel is high
# At the width of a README, about 830 pixels, the smallest text is as large as the README's own.
STYLE: Any = MappingProxyType(
    {
        "font.size": 12,
        "axes.titlesize": 12,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "legend.frameon": False,
        "pdf.fonttype": 42,
    }
)
FEW = 3  # lines that are named where they are, without a legend
APART = 0.14  # of the height of a panel, between lines that can be named there


@mpl.rc_context(dict(STYLE))
def accuracy_vs_epochs(
    records: Sequence[RunRecord], path: Path, titles: Mapping[reading.Family, str] = MappingProxyType({})
) -> bool:
    """Final test accuracy against the number of retraining epochs, a line per initial LR. False without data.

    ``titles`` names panels by their ratio and method. A panel without a title there says both.
    """

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
        axes.set_ylabel("test accuracy (%)")

    return _panels(records, path, draw, titles)


@mpl.rc_context(dict(STYLE))
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
        axes.set_ylabel(JSV)

    return _panels(measured, path, draw)


@mpl.rc_context(dict(STYLE))
def accuracy_along_retraining(records: Sequence[RunRecord], path: Path) -> bool:
    """Test accuracy per epoch of the longest run of each LR, its LR drops as verticals (as Fig. 2)."""

    def draw(axes: Any, group: Sequence[RunRecord]) -> None:
        for i, record in enumerate(longest_of_each_lr(group)):
            at, values = reading.through_rounds(record, "test_accuracy")
            band(axes, at, values, i, f"LR {reading.initial_lr(record):g}")
            for start in reading.lr_drops(record):
                axes.axvline(start, color=DROP, linewidth=0.9, linestyle=LINES[i % 4])
        axes.plot([], [], color=DROP, linewidth=0.9, label="LR drop (same dash as its curve)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("retraining epoch")
        axes.set_ylabel("test accuracy (%)")

    return _panels(records, path, draw)


@mpl.rc_context(dict(STYLE))
def pruned_vs_scratch(records: Sequence[RunRecord], path: Path) -> bool:
    """Test accuracy against the pruning ratio, a line per regime and one for scratch. False without data."""
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
    name_lines(figure, [axes])
    save(figure, path)
    return True


def _regime(record: RunRecord) -> str:
    return "scratch" if record.method == "scratch" else str(record.config.get("regime") or record.method)


def _panels(
    records: Sequence[RunRecord],
    path: Path,
    draw: Callable[[Any, Sequence[RunRecord]], None],
    titles: Mapping[reading.Family, str] = MappingProxyType({}),
) -> bool:
    """Draw one panel per family (ratio and method). False when there is nothing to draw."""
    families = reading.families(records)
    if not families:
        return False
    figure, grid = panels(len(families))
    for axes, ((ratio, method), group) in zip(grid, families.items(), strict=True):
        draw(axes, group)
        axes.set_title(titles.get((ratio, method), f"pruning ratio {ratio}, {method}"))
    share_labels(grid)
    name_lines(figure, grid)
    save(figure, path)
    return True


def panels(count: int, height: float = 2.6) -> tuple[Figure, list[Any]]:
    """A figure at README width with so many panels, two in a row, that share their axes."""
    columns = min(count, 2)
    rows = -(-count // columns)
    figure = Figure(
        figsize=(5.0 * columns if columns > 1 else 7.2, height * rows + 0.6), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=True).ravel()
    for axes in grid[count:]:
        axes.remove()
        grid[count - 2].tick_params(labelbottom=True)  # nothing is left beneath it
    return figure, list(grid[:count])


def share_labels(grid: Sequence[Any]) -> None:
    """Name the axes at the left and at the bottom of the figure alone."""
    beneath = {axes.get_subplotspec().colspan.start: axes for axes in grid}
    for axes in grid:
        if not axes.get_subplotspec().is_first_col():
            axes.set_ylabel("")
        if axes is not beneath[axes.get_subplotspec().colspan.start]:
            axes.set_xlabel("")


def name_lines(figure: Figure, grid: Sequence[Any]) -> None:
    """Name the lines once: at their ends in a panel where few of them lie apart, else in one legend above."""
    named: dict[str, Any] = {}
    for axes in grid:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    place = _room(grid, named) if 0 < len(named) <= FEW else None
    if place is None:
        if named:
            columns = 2 if len(named) == 4 else min(len(named), 3)  # no row with a single name
            figure.legend(list(named.values()), list(named), loc="outside upper center", ncols=columns)
        return
    axes, ends = place
    for label, (x, y, color) in ends.items():
        axes.annotate(
            label, (x, y), (7, 0), textcoords="offset points", color=color, va="center", annotation_clip=False
        )


def _room(
    grid: Sequence[Any], named: Mapping[str, Any]
) -> tuple[Any, dict[str, tuple[Any, Any, Any]]] | None:
    """The first panel in the last column in which all lines end apart, and those ends with their colours."""
    for axes in grid:
        if not axes.get_subplotspec().is_last_col():
            continue
        ends = {}
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            line = handle[0] if hasattr(handle, "lines") else handle
            if not len(line.get_xdata()):
                return None  # a key of the legend's own
            ends[label] = (line.get_xdata()[-1], line.get_ydata()[-1], line.get_color())
        heights = sorted(axes.transData.transform((x, y))[1] for x, y, _ in ends.values())
        needed = APART * axes.get_window_extent().height
        if ends.keys() == named.keys() and all(b - a >= needed for a, b in itertools.pairwise(heights)):
            return axes, ends
    return None


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG at README size, and as PDF beside it.

    A file is there whole or not at all. A missing folder is made.
    """
    with atomic.writing(path) as file:
        figure.savefig(file, dpi=130, format="png")
    figure.set_layout_engine("none")  # the PDF is laid out as the PNG was
    with mpl.rc_context(dict(STYLE)), atomic.writing(path.with_suffix(".pdf")) as file:
        figure.savefig(file, format="pdf", metadata={"CreationDate": None})  # equal records, equal bytes


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
        "linestyle": LINES[i % 4],
        "capsize": 3,
        "label": label,
    }
