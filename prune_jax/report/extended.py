"""The small retraining LR given more epochs (Table 5), and both LRs at equal epochs (Table 6)."""

from collections.abc import Sequence
from typing import NamedTuple

from prune_jax.fairness import RunRecord
from prune_jax.report import reading, tables
from prune_jax.report.verdicts import LEVEL, Effect, effects, verdict
from prune_jax.text_table import markdown

NOTE = (
    "Gap: the large LR at its fewest epochs minus this run, in points of test accuracy. p: Welch's two-sided test "
    "on the seeds, corrected by Holm within a ratio. *Behind*, *ahead*: p < 0.05. *Not told apart* says that no gap"
    " shows, which is less than that there is none. Trainability accuracy: Eq. (1), over the first LR stage, which "
    "grows with the epochs that are added. Mean JSV: right after pruning, and after the last epoch."
)
LARGER = (
    "Accuracy under the larger minus under the smaller initial LR, in points, at equal epochs. p: Welch's two-sided"
    " test on the seeds, corrected by Holm over all rows. The paper states that the larger LR is ahead (App. C)."
)


class Longer(NamedTuple):
    """A run beside the large LR's shortest one: ``effect`` is that run minus this one."""

    ratio: str
    record: RunRecord
    effect: Effect


def longer_runs(records: Sequence[RunRecord]) -> list[Longer]:
    """Of each ratio the runs of plain pruning that are not the reference: its largest LR with the fewest epochs."""
    plain = [r for r in records if r.config.get("sparsify", {}).get("recovery") == "none"]
    found = []
    for (ratio, _), group in reading.families(plain).items():
        group = sorted(group, key=lambda r: (-reading.initial_lr(r), reading.epochs(r)))
        reference, rest = group[0], group[1:]
        each = effects([(reference, record) for record in rest])
        found += [Longer(ratio, record, effect) for record, effect in zip(rest, each, strict=True)]
    return found


def extended(records: Sequence[RunRecord]) -> str:
    """A table of all runs of plain pruning beside the large LR's shortest one. '' without any."""
    runs = longer_runs(records)
    if not runs:
        return ""
    head = ["ratio", "LR", "epochs", "accuracy %", "gap", "p", "verdict", "trainability acc. %", "mean JSV"]
    return "\n\n".join([markdown(head, [_row(run) for run in runs]), NOTE])


def _row(run: Longer) -> list[str]:
    record = run.record
    return [
        run.ratio,
        f"{reading.initial_lr(record):g}",
        str(reading.epochs(record)),
        tables.accuracy_text(record),
        f"{run.effect.difference:+.2f}",
        tables.p_text(run.effect.p),
        standing(run.effect),
        tables.spread(reading.trainability_accuracies(record)),
        _jsv(record),
    ]


def standing(effect: Effect) -> str:
    """Where a run stands to its reference, by the reference minus the run.

    >>> standing(Effect(3.0, 0.01)), standing(Effect(-3.0, 0.01)), standing(Effect(3.0, 0.1))
    ('behind', 'ahead', 'not told apart')
    """
    if effect.p is None or effect.p >= LEVEL:
        return "not told apart"
    return "behind" if effect.difference > 0 else "ahead"


def _jsv(record: RunRecord) -> str:
    if not reading.has(record, "mean_jsv"):
        return ""
    _, values = reading.curve(record, "mean_jsv")
    return f"{values[:, 0].mean():.3g} to {values[:, -1].mean():.3g}"


def larger_lr(records: Sequence[RunRecord]) -> str:
    """Step and cosine schedules: the larger against the smaller initial LR for each network and ratio."""
    pairs = lr_pairs(records)
    head = ["network", "ratio", "schedule", "larger %", "smaller %", "difference", "p", "larger LR ahead"]
    each = effects([pair for _, pair in pairs])
    rows = [
        [
            *place,
            tables.accuracy_text(large),
            tables.accuracy_text(small),
            f"{effect.difference:+.2f}",
            tables.p_text(effect.p),
            verdict(effect, 1),
        ]
        for (place, (large, small)), effect in zip(pairs, each, strict=True)
    ]
    return "\n\n".join([markdown(head, rows), LARGER]) if rows else ""


def lr_pairs(
    records: Sequence[RunRecord],
) -> list[tuple[tuple[str, str, str], tuple[RunRecord, RunRecord]]]:
    """((network, ratio, kind of schedule), (run at the largest initial LR, at the smallest)) of pruned networks."""
    groups: dict[tuple[str, str, str], list[RunRecord]] = {}
    for record in records:
        if record.method != "scratch":
            kind = "cosine" if "cos" in str(reading.last_stage(record).schedule) else "step"
            place = (str(record.network), str(record.axes.ratio), kind)
            groups.setdefault(place, []).append(record)
    ordered = {place: sorted(group, key=reading.initial_lr) for place, group in groups.items()}
    return [(place, (group[-1], group[0])) for place, group in ordered.items() if len(group) > 1]
