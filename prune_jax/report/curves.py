"""Figures 2 and 3: test accuracy along each retraining, with the paper's points where they fit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.ticker import MaxNLocator

from prune_jax.fairness import RunRecord, published
from prune_jax.report import reading
from prune_jax.report.figures import COLORS, DROP, STYLE, name_lines, panels, save, share_labels

CROSS = "#D55E00"


@mpl.rc_context(dict(STYLE))
def retraining_curves(records: Sequence[RunRecord], path: Path) -> bool:
    """A panel for each run: its seeds, LR drops as verticals, the unextended run's first drop as a cross.

    False without runs that name a row of the paper.
    """
    shown = [record for record in records if record.config.get("row") and record.method != "scratch"]
    if not shown:
        return False
    figure, grid = panels(len(shown))
    for axes, record in zip(grid, shown, strict=True):
        _panel(axes, record, _first_drop(record, records))
    share_labels(grid)
    name_lines(figure, grid)
    save(figure, path)
    return True


def paper_points(record: RunRecord) -> list[tuple[float, float]]:
    """The paper's (epoch, accuracy) for the record's row. Empty where it shows none over these epochs."""
    points = [
        (point["epoch"], point["test_acc_read"])
        for point in published.rows("fig2_fig3_points")
        if point["setup"] == record.config.get("row")
    ]
    return points if points and points[-1][0] == reading.epochs(record) else []


def _panel(axes: Any, record: RunRecord, cross: int | None) -> None:
    at, values = reading.through_rounds(record, "test_accuracy")
    mean = values.mean(0)
    axes.plot(at, mean, color=COLORS[0], label=f"{record.dataset}, mean of {len(values)} seeds")
    axes.fill_between(at, values.min(0), values.max(0), color=COLORS[0], alpha=0.2, linewidth=0)
    theirs = paper_points(record)
    if theirs:
        axes.plot(
            *zip(*theirs, strict=True), color="0.45", linestyle=":", label="paper (read off its figure)"
        )
    for i, start in enumerate(reading.lr_drops(record)):
        axes.axvline(start, color=DROP, linewidth=0.9, label="LR drop" if i == 0 else None)
    if cross is not None and cross in at:
        style = {"linestyle": "", "marker": "x", "markersize": 11, "markeredgewidth": 2.5, "color": CROSS}
        axes.plot(cross, mean[list(at).index(cross)], label="first LR drop of the unextended run", **style)
    axes.set_title(str(record.name))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("retraining epoch (0: right after pruning)")
    axes.set_ylabel("test accuracy (%)")


def _first_drop(record: RunRecord, records: Sequence[RunRecord]) -> int | None:
    """The epoch at which the unextended run of an extended one first lowers its LR.

    None for a run that extends no other, and where the unextended run is missing.
    """
    base, extended, _ = str(record.config["row"]).partition(" (+")
    if not extended:
        return None
    same = [r for r in records if r.config.get("row") == base and r.axes.ratio == record.axes.ratio]
    return reading.schedule(same[0]).first_stage if same else None
