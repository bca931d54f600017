"""Figures of what the Jacobian does: its mean singular value beside accuracy, its spectrum along the chain."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from prune_jax.fairness import JSVSummary, RunRecord
from prune_jax.fairness.jsv import BINS_PER_DECADE
from prune_jax.report import reading
from prune_jax.report.figures import (
    COLORS,
    JSV,
    STYLE,
    band,
    longest_of_each_lr,
    name_lines,
    save,
    share_labels,
)

START: Mapping[str, Any] = MappingProxyType({"color": COLORS[2], "linestyle": "-.", "linewidth": 1.4})
# How a network before the last stage is drawn, by the names of ``reading.spectra_before``.
STYLES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        reading.DENSE: MappingProxyType({"color": "0.25", "linestyle": ":", "linewidth": 1.6}),
        "after pruning": MappingProxyType({"color": COLORS[1], "linestyle": "--", "linewidth": 1.4}),
        "after recovery": START,
        "at the start": START,
    }
)
Curve = tuple[str, Mapping[str, Any], list[JSVSummary]]  # label, how it is drawn, a summary for each seed


@mpl.rc_context(dict(STYLE))
def accuracy_beside_jsv(records: Sequence[RunRecord], path: Path) -> bool:
    """Test accuracy and mean JSV along the longest retraining of each LR, side by side. False without a JSV."""
    families = reading.families([record for record in records if reading.has(record, "mean_jsv")])
    if not families:
        return False
    figure = Figure(figsize=(10.0, 2.6 * len(families) + 0.6), layout="constrained")
    grid = figure.subplots(len(families), 2, squeeze=False, sharex=True, sharey="col")
    for (left, right), ((ratio, method), group) in zip(grid, families.items(), strict=True):
        for i, record in enumerate(longest_of_each_lr(group)):
            for axes, quantity in ((left, "test_accuracy"), (right, "mean_jsv")):
                band(axes, *reading.through_rounds(record, quantity), i, f"LR {reading.initial_lr(record):g}")
        right.set_yscale("log")
        for axes, label in ((left, "test accuracy (%)"), (right, JSV)):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlabel("retraining epoch (0: right after pruning)")
            axes.set_ylabel(label)
            axes.set_title(f"pruning ratio {ratio}, {method}")
    for left, right in grid[:-1]:
        left.set_xlabel("")
        right.set_xlabel("")
    name_lines(figure, list(grid.ravel()))
    save(figure, path)
    return True


@mpl.rc_context(dict(STYLE))
def spectra(records: Sequence[RunRecord], path: Path) -> bool:
    """Histograms of JSVs before pruning, after it, after recovery and along retraining. False without any.

    Rows are ratios and methods, columns the longest run of each initial LR. All seeds' values are pooled.
    """
    measured = [record for record in records if reading.has_spectra(record)]
    rows = [longest_of_each_lr(group) for group in reading.families(measured).values()]
    if not rows:
        return False
    columns = max(map(len, rows))
    figure = Figure(figsize=(max(7.2, 4.2 * columns), 2.6 * len(rows) + 0.9), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False, sharex=True, sharey="row")
    for line, group in zip(grid, rows, strict=True):
        for axes in line[len(group) :]:
            axes.remove()
        for axes, record in zip(line, group, strict=False):
            _panel(axes, record)
    share_labels([axes for line, group in zip(grid, rows, strict=True) for axes in line[: len(group)]])
    save(figure, path)
    return True


@mpl.rc_context(dict(STYLE))
def one_histogram(summaries: Mapping[str, JSVSummary], title: str, path: Path) -> bool:
    """Histograms of labelled spectra in one panel. False without any."""
    if not summaries:
        return False
    figure = Figure(figsize=(6.8, 4.0), layout="constrained")
    axes = figure.subplots()
    for i, (label, summary) in enumerate(summaries.items()):
        color = COLORS[i % len(COLORS)]
        draw_histogram(axes, [summary], label, color=color, linewidth=1.6)
        axes.axvline(summary.mean, color=color, linestyle=":", label=f"mean {summary.mean:.3g}")
    axes.set_title(title, fontsize=10)
    _label(axes)
    save(figure, path)
    return True


def draw_histogram(axes: Any, summaries: Sequence[JSVSummary], label: str, **style: Any) -> None:
    """Share of all singular values in each bin, in percent, over all summaries. The label counts the unresolved."""
    stated = [summary for summary in summaries if summary.first_bin is not None]
    total = sum((s.resolved or 0) + (s.unresolved or 0) for s in summaries)
    missing = sum(s.unresolved or 0 for s in summaries)
    note = f" ({100 * missing / total:.2g} % unresolved)" if missing else ""
    if not stated:
        axes.plot([], [], label=label + note, **style)
        return
    first = min(s.first_bin for s in stated if s.first_bin is not None)
    pooled = np.zeros(max((s.first_bin or 0) + len(s.counts) for s in stated) - first)
    for s in stated:
        start = (s.first_bin or 0) - first
        pooled[start : start + len(s.counts)] += s.counts
    edges = 10.0 ** ((first + np.arange(len(pooled) + 1)) / BINS_PER_DECADE)
    axes.stairs(100 * pooled / total, edges, label=label + note, **style)


def _panel(axes: Any, record: RunRecord) -> None:
    for label, style, summaries in _curves(record):
        draw_histogram(axes, summaries, label, **style)
    axes.set_title(f"ratio {record.axes.ratio}, {record.method}, LR {reading.initial_lr(record):g}")
    _label(axes)


def _label(axes: Any) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("Jacobian singular value")
    axes.set_ylabel("share of values (%)")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=9)


def _curves(record: RunRecord) -> Iterator[Curve]:
    """What is known of the record's networks, in the order in which they came to be."""
    for name, summaries in reading.spectra_before(record).items():
        yield name, STYLES[name], summaries
    for shade, epoch in zip((0.45, 1.0), _middle_and_last(record), strict=False):
        along = [_at(r.epochs, epoch) for r in record.results]
        style = {"color": COLORS[0], "alpha": shade, "linewidth": 1.6}
        yield f"retrained, {epoch} epochs", style, [summary for summary in along if summary is not None]


def _middle_and_last(record: RunRecord) -> list[int]:
    """An epoch in the middle of retraining (the nearest in ratio) and the last one, where spectra are known."""
    known = sorted({e.epoch for r in record.results for e in r.epochs if e.spectrum and e.epoch > 0})
    if len(known) < 2:
        return known
    middle = min(known[:-1], key=lambda epoch: abs(epoch - known[-1] / 4))
    return [middle, known[-1]]


def _at(epochs: Sequence[Any], epoch: int) -> JSVSummary | None:
    """The last spectrum up to ``epoch``: a seed that ended earlier shows its end."""
    return next((e.spectrum for e in reversed(epochs) if e.spectrum and e.epoch <= epoch), None)
