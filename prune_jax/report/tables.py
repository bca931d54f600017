"""Markdown tables of a report, each a function of records."""

from collections.abc import Sequence

from prune_jax.fairness import RunRecord, Sample, welch
from prune_jax.fairness.chance import stuck_text
from prune_jax.report import reading
from prune_jax.text_table import markdown


def accuracy(records: Sequence[RunRecord]) -> str:
    """Every run: accuracy at the last epoch as mean ± sample std and seed by seed, and its trainability."""
    head = [
        "run",
        "ratio",
        "method",
        "LR schedule",
        "epochs",
        measured(records),
        "each seed",
        "trainability acc. %" if measured(records) == "accuracy %" else "mean along the first LR stage",
    ]
    head += ["mean JSV before", "mean JSV after"]
    rows = []
    for record in records:
        rows.append(
            [
                record.name,
                str(record.axes.ratio),
                method_text(record),
                _schedule_text(record),
                ", ".join(str(count) for count in sorted(set(reading.lengths(record)))),
                accuracy_text(record),
                ", ".join(f"{value:.{digits_of(record) - 1}f}" for value in record.accuracies),
                spread(reading.trainability_accuracies(record)),
                *_jsv_ends(record),
            ]
        )
    note = (
        f"{measured_on(records)} after the last epoch, mean ± sample standard deviation over seeds. "
        "Trainability accuracy: Eq. (1), the mean over the epochs of the first LR stage, to be compared under one "
        "schedule only. Mean JSV: before the first and after the last epoch of the run's last stage."
    )
    return "\n\n".join([markdown(head, rows), note, *_chains(records)])


def measured(records: Sequence[RunRecord]) -> str:
    """What a column of values is called: 'accuracy %', or the records' metric where it is another one."""
    names = sorted({record.measured.name for record in records} - {"top-1 accuracy"})
    return " or ".join(names) or "accuracy %"


def measured_on(records: Sequence[RunRecord]) -> str:
    """How a note explains that column."""
    if measured(records) == "accuracy %":
        return "Accuracy: top-1 on the test images"
    return f"{measured(records).capitalize()}: on the test split"


def digits_of(record: RunRecord) -> int:
    """Decimals that a value of the record's metric is shown with."""
    return 2 if record.measured.unit == "%" else 3


def method_text(record: RunRecord) -> str:
    """The method, with the granularity where it isn't whole channels."""
    granularity = record.axes.granularity
    plain = granularity in (None, "filter", "channel") or record.method == "scratch"
    return str(record.method) if plain else f"{record.method}, {granularity}"


def base(records: Sequence[RunRecord]) -> str:
    """The dense base models behind the runs: accuracy and mean JSV, one row per base model id."""
    seen: dict[tuple[str, ...], list[str]] = {}
    for record in records:
        first = record.stages[0] if record.stages else None
        if first is None or first.kind != "pretrain" or not first.ids:
            continue
        accuracies = [r.base_accuracy for r in record.results if r.base_accuracy is not None]
        values = [r.base_mean_jsv for r in record.results if r.base_mean_jsv is not None]
        seen[first.ids] = [
            str(record.network),
            str(record.dataset),
            "unstated (imported)" if first.epochs is None else f"{first.epochs} epochs, `{first.schedule}`",
            spread(accuracies, digits_of(record)),
            spread(values, 3) if values else "",
        ]
    head = ["network", "data", "pretraining", measured(records), "mean JSV"]
    return markdown(head, list(seen.values()))


def lr_gap(records: Sequence[RunRecord]) -> str:
    """Large minus small initial retraining LR at equal epochs, with Welch's two-sided p (mystery 1)."""
    parts = []
    for (ratio, method), group in reading.families(records).items():
        lrs = sorted({reading.initial_lr(record) for record in group})
        if len(lrs) < 2:
            continue
        small, large = lrs[0], lrs[-1]
        head = ["epochs", f"LR {large:g}", f"LR {small:g}", "gap (points)", "p"]
        rows: list[list[str]] = []
        for count in sorted({reading.epochs(record) for record in group}):
            pair = [_one(group, lr, count) for lr in (large, small)]
            if pair[0] is None or pair[1] is None:
                continue
            test = welch(pair[0].accuracies, pair[1].accuracies)
            rows.append(
                [
                    str(count),
                    *(accuracy_text(p) for p in pair if p),
                    f"{test.difference:+.1f}",
                    p_text(test.p),
                ]
            )
        parts.append(f"**Pruning ratio {ratio}, {method}**\n\n{markdown(head, rows)}")
    note = "p: Welch's two-sided t-test on the seeds; no correction for the number of rows."
    return "\n\n".join([*parts, note])


def accuracy_text(record: RunRecord) -> str:
    """``mean ± sample std`` over the seeds, and which of them learnt nothing: their accuracy is that of a guess."""
    stuck = stuck_text(record)
    named = f" (at chance: {stuck})" if stuck else ""
    return spread(record.accuracies, digits_of(record)) + named


def spread(values: Sequence[float], digits: int = 2) -> str:
    """``mean ± sample std``. The std of a single value is left out."""
    sample = Sample.of(values)
    std = "" if sample.std is None else f" ± {sample.std:.{digits}f}"
    return f"{sample.mean:.{digits}f}{std}"


def speedup(record: RunRecord) -> str:
    """Dense over (mean) pruned MACs. Where the seeds' networks differ, the range over seeds is in brackets."""
    each, mean = reading.speedups(record), f"{record.costs.speedup:.2f}x"
    return f"{mean} ({min(each):.2f}x to {max(each):.2f}x)" if each else mean


def p_text(p: float | None) -> str:
    """A p value as a table shows it."""
    if p is None:
        return "n/a"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _chains(records: Sequence[RunRecord]) -> list[str]:
    """Stage by stage the runs of several rounds, and those whose seeds' networks differ. Empty without any."""
    shown = [r for r in records if reading.has_rounds(r) or reading.speedups(r)]
    rows = [row for record in shown for row in _chain(record)]
    head = ["run", "stage", "epochs", "MACs", "speedup"]
    note = (
        "Every stage of these runs, with the forward MACs of an example after it. Where the seeds' networks differ, "
        "MACs are their mean, and the last speedup has the range over seeds in brackets."
    )
    return [markdown(head, rows), note] if rows else []


def _chain(record: RunRecord) -> list[list[str]]:
    stages, dense = record.stages or (), record.costs.dense_macs
    rows = []
    for number, stage in enumerate(stages, 1):
        ratio = f"{dense / stage.macs:.2f}x" if dense and stage.macs else ""
        told = speedup(record) if number == len(stages) and record.costs.speedup else ratio
        count, macs = stage.epochs, stage.macs
        shown = ["" if count is None else str(count), "" if macs is None else f"{macs:,.0f}"]
        rows.append([record.name, f"{number} {stage.kind}", *shown, told])
    return rows


def _one(group: Sequence[RunRecord], lr: float, count: int) -> RunRecord | None:
    found = [r for r in group if reading.initial_lr(r) == lr and reading.epochs(r) == count]
    return found[0] if found else None


def _schedule_text(record: RunRecord) -> str:
    rule = "until plateaus, e.g. " if reading.last_stage(record).by_rule else ""
    return f"{rule}`{reading.schedule(record)}`"


def _jsv_ends(record: RunRecord) -> list[str]:
    if not reading.has(record, "mean_jsv"):
        return ["", ""]
    _, values = reading.curve(record, "mean_jsv")
    return [f"{values[:, 0].mean():.3g}", f"{values[:, -1].mean():.3g}"]
