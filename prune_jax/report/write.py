"""A report on disk: report.md, its figures and report.html, from records alone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from prune_jax import atomic, nearest
from prune_jax.fairness import RunRecord
from prune_jax.fairness.parts import rank_several
from prune_jax.report import (
    beside_paper,
    budgets,
    controls,
    cross_validating,
    curves,
    damage,
    extended,
    figures,
    jacobian_figures,
    jacobian_tables,
    method_ranking,
    opening,
    page,
    plateau,
    pruning_value,
    statements,
    tables,
)

Table = tuple[str, Callable[[Sequence[RunRecord]], str]]
Drawing = tuple[str, str, Callable[[Sequence[RunRecord], Path], bool]]

# Section name -> heading and table. A config lists the names it wants, in its order.
TABLES: Mapping[str, Table] = MappingProxyType(
    {
        "base": ("Base models", tables.base),
        "lr_gap": ("Larger against smaller retraining LR", tables.lr_gap),
        "extended": ("More epochs for the small retraining LR", extended.extended),
        "larger_lr": ("Does the larger retraining LR end higher?", extended.larger_lr),
        "pruning_value": ("The value of pruning", pruning_value.pruning_value),
        "statements": ("Which of the paper's statements hold", statements.statements),
        "beside_paper": ("Beside the paper", beside_paper.fullest),
        "cross_validation": ("Both methods under both retrainings", cross_validating.cross_validation),
        "controls": ("Does inheriting weights help beyond isometry?", controls.controls),
        "lr_spread": ("Fixed schedules beside plateau-extended ones", plateau.lr_spread),
        "method_ranking": ("Methods, ranked within setups that hold", method_ranking.ranking),
        "retraining_ranking": ("Retrainings of the same pruned networks", method_ranking.retraining_ranking),
        "equal_compute_ranking": (
            "Runs at equal training compute",
            method_ranking.equal_compute_ranking,
        ),
        "damage_and_lr": ("Damage to the Jacobian beside the effect of the LR", damage.damage),
        "budgets": ("Budgets in tokens and FLOPs", budgets.budgets),
        "accuracy": ("Every run", tables.accuracy),
    }
)
# Section name -> heading, alternative text and drawing.
FIGURES: Mapping[str, Drawing] = MappingProxyType(
    {
        "accuracy_vs_epochs": (
            "Accuracy against retraining epochs",
            "test accuracy against retraining epochs for each retraining LR",
            figures.accuracy_vs_epochs,
        ),
        "jsv_along_retraining": (
            "Mean Jacobian singular value along retraining",
            "mean JSV against retraining epoch for each retraining LR",
            figures.jsv_along_retraining,
        ),
        "accuracy_along_retraining": (
            "Accuracy along retraining",
            "test accuracy against retraining epoch, LR drops marked",
            figures.accuracy_along_retraining,
        ),
        "retraining_curves": (
            "Accuracy along each retraining",
            "test accuracy against retraining epoch, a panel for each run",
            curves.retraining_curves,
        ),
        "accuracy_beside_jsv": (
            "Accuracy and mean Jacobian singular value",
            "test accuracy and mean JSV against retraining epoch, side by side",
            jacobian_figures.accuracy_beside_jsv,
        ),
        "spectra": (
            "Jacobian spectra before pruning, after it and along retraining",
            "histograms of Jacobian singular values along the chain, a panel for each initial LR",
            jacobian_figures.spectra,
        ),
        "pruned_vs_scratch": (
            "Pruned and scratch",
            "test accuracy against pruning ratio for each regime and scratch",
            figures.pruned_vs_scratch,
        ),
    }
)
# Section name of a figure -> the table beneath it, '' without data.
BENEATH: Mapping[str, Callable[[Sequence[RunRecord]], str]] = MappingProxyType(
    {"spectra": jacobian_tables.isometry}
)
PAGE = "report.html"
SECTIONS = (*TABLES, *FIGURES)


def check_sections(sections: Sequence[str]) -> None:
    """Raise ValueError for a section that no report has."""
    for name in sections:
        if name not in SECTIONS:
            raise ValueError(f"report.sections: {nearest.unknown('section', name, SECTIONS)}")


def write(
    folder: Path, records: Sequence[RunRecord], layout: Mapping[str, Any], runs: int, draw: bool = True
) -> Path:
    """Write ``report.md``, and when ``draw`` the figures and ``report.html``, from a launch of ``runs`` runs.

    ``layout`` is the config's ``report``: a title, an optional text, section names, and ``interactive``, False for no
    ``report.html``. The report opens with what was run, the text and the verdicts. Versions and ids come last. A table
    without rows has no heading either. Equal records give equal bytes, so a launch that was interrupted ends with the
    same report.
    """
    check_sections(layout["sections"])
    folder.mkdir(parents=True, exist_ok=True)
    title = layout["title"] or "Report"
    parts = [f"# {title}", opening.what_was_run(records)]
    if len(records) < runs:
        parts.append(f"**{len(records)} of {runs} runs are finished; the rest is missing below.**")
    parts.append(layout.get("text") or "")
    if records:
        parts.append(f"## Verdicts\n\n{opening.verdicts(rank_several(records))}")
    if layout.get("interactive", True) and _interactive(folder, title, records, draw):
        parts.append(f"Every curve, with its seed and id: [{PAGE}]({PAGE}), a file to download and open.")
    for name in layout["sections"]:
        if name in TABLES:
            parts += _table(name, records)
        else:
            parts += _figure(folder, name, records, draw)
    if records:
        parts.append(f"## How it was made\n\n{opening.provenance(records)}")
    path = folder / "report.md"
    atomic.write_text(path, "\n\n".join(part for part in parts if part) + "\n")
    return path


def _table(name: str, records: Sequence[RunRecord]) -> list[str]:
    heading, table = TABLES[name]
    text = table(records)
    return [f"## {heading}\n\n{text}"] if text else []


def _figure(folder: Path, name: str, records: Sequence[RunRecord], draw: bool) -> list[str]:
    heading, alternative, drawing = FIGURES[name]
    path = folder / "figures" / f"{name}.png"
    there = drawing(records, path) if draw else path.exists()
    shown = [f"![{alternative}](figures/{name}.png)"] if there else []
    shown += [text for text in [BENEATH[name](records)] if text] if name in BENEATH else []
    return [f"## {heading}", *shown] if shown else []


def _interactive(folder: Path, title: str, records: Sequence[RunRecord], draw: bool) -> bool:
    """Write the interactive page when ``draw``. Returns whether it is there."""
    path = folder / PAGE
    text = page.html(title, records) if draw else None
    if text is not None:
        atomic.write_text(path, text)
    return path.exists()
