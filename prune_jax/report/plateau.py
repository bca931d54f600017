"""Fixed LR schedules beside plateau-extended ones: what is left of the initial LR's effect, and at what cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prune_jax.fairness import RunRecord, Sample, SeedResult
from prune_jax.report import reading, tables
from prune_jax.schedules import LRSchedule
from prune_jax.text_table import markdown

CAPPED = "†"


def lr_spread(records: Sequence[RunRecord]) -> str:
    """A table for each pruning ratio and method: accuracy and epochs under each initial LR, and their spread.

    The spread is the largest minus the smallest mean accuracy over the initial LRs. Its standard error is that
    of a difference of two means. Nothing corrects for the pair being chosen after the fact.
    """
    head = [
        "ratio",
        "schedule",
        "initial LR",
        "accuracy %",
        "epochs (each seed)",
        "mean epochs",
        "spread (points)",
    ]
    rows: list[list[str]] = []
    for (ratio, _), family in reading.families(records).items():
        for by_rule in (False, True):
            group = sorted(
                (r for r in family if reading.last_stage(r).by_rule == by_rule),
                key=reading.initial_lr,
                reverse=True,
            )
            if group:
                rows += _rows(ratio, "plateau" if by_rule else "fixed", group)
    note = (
        "Spread: largest minus smallest mean accuracy over the initial LRs, ± the standard error of that difference "
        "(the pair is picked afterwards, which nothing corrects). Accuracy: test top-1 after the last epoch, mean ± "
        "sample standard deviation over seeds. Under *plateau* each LR stage lasts until the training loss and the "
        "mean JSV of training examples stand still; no test image has a say." + _cap_note(records)
    )
    return f"{markdown(head, rows)}\n\n{note}"


def spread_of(group: Sequence[RunRecord]) -> tuple[float, float | None]:
    """Largest minus smallest mean accuracy of the records, and its standard error, None with single seeds."""
    samples = sorted((Sample.of(record.accuracies) for record in group), key=lambda sample: sample.mean)
    low, high = samples[0], samples[-1]
    errors = [s.std**2 / s.n for s in (low, high) if s.std is not None and s.n]
    return high.mean - low.mean, sum(errors) ** 0.5 if len(errors) == 2 else None


def capped(record: RunRecord) -> list[list[int]]:
    """For every seed, which LR stages (1 is the first) ended because they may last no longer, not at a plateau.

    A stage that stood still just then is none of them. Empty lists without a rule. What the record doesn't state,
    loss or JSV of an epoch, did not stand still.
    """
    last = reading.last_stage(record)
    train = last.spec.get("train", {})
    if not last.by_rule or "extend" not in train:
        return [[] for _ in record.results]
    longest = LRSchedule.parse(train["schedule"], train["epochs"]).stages
    found = []
    for schedule, result in zip(reading.schedules(record), record.results, strict=True):
        pairs = enumerate(zip(schedule.stages, longest, strict=False), start=1)
        found.append(
            [
                number
                for number, ((start, end, _), (first, after, _)) in pairs
                if end - start >= after - first and not _stood_still(result, start, end, train["extend"])
            ]
        )
    return found


def _stood_still(result: SeedResult, start: int, end: int, rule: Mapping[str, Any]) -> bool:
    """Whether loss and JSV stood still when a stage was over, by the rule of ``experiment.training.plateau``."""
    window, length = rule["window"], end - start
    if length % window or length < max(2 * window, rule["minimum"]):
        return False
    told = {e.epoch: (e.train_loss, e.train_jsv) for e in result.epochs}
    epochs = [told.get(epoch, (None, None)) for epoch in range(end - 2 * window + 1, end + 1)]
    losses, jsvs = np.array(epochs, float).T  # None becomes NaN, and nothing compares with NaN
    (loss_before, loss), (jsv_before, jsv) = (v.reshape(2, window).mean(1) for v in (losses, jsvs))
    return bool(abs(loss - loss_before) <= rule["loss"] and abs(jsv - jsv_before) <= rule["jsv"] * jsv_before)


def _lengths(record: RunRecord) -> str:
    """How many epochs each seed took, with a mark where a stage ran into its cap."""
    each = zip(reading.lengths(record), capped(record), strict=True)
    return ", ".join(f"{length}{CAPPED if stages else ''}" for length, stages in each)


def _cap_note(records: Sequence[RunRecord]) -> str:
    """What the mark means and which stages earned it. '' without any."""
    names = ("", "first", "second", "third")
    found = []
    for record in records:
        for result, stages in zip(record.results, capped(record), strict=True):
            for number in stages:
                name = names[number] if number < len(names) else f"{number}th"
                found.append(f"{record.name}, seed {result.seed}: {name} stage")
    if not found:
        return ""
    return (
        f" {CAPPED}: an LR stage of this seed did not reach a plateau; it ended after the most epochs that it may "
        f"last ({'; '.join(found)})."
    )


def _rows(ratio: str, name: str, group: Sequence[RunRecord]) -> list[list[str]]:
    difference, error = spread_of(group)
    rows = [
        [
            ratio,
            name,
            f"{reading.initial_lr(record):g}",
            tables.accuracy_text(record),
            _lengths(record),
            f"{np.mean(reading.lengths(record)):.0f}",
            "",
        ]
        for record in group
    ]
    all_lengths = [length for record in group for length in reading.lengths(record)]
    total = f"{difference:.2f}" + ("" if error is None else f" ± {error:.2f}")
    return [*rows, [ratio, name, "**all**", "", "", f"**{np.mean(all_lengths):.0f}**", f"**{total}**"]]
