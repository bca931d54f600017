"""Fixed LR schedules beside plateau-extended ones: what is left of the initial LR's effect, and at what cost."""

from collections.abc import Sequence

import numpy as np

from prune_jax.fairness import RunRecord, Sample
from prune_jax.report import reading, tables


def lr_spread(records: Sequence[RunRecord]) -> str:
    """A table for each pruning ratio and method: accuracy and epochs under each initial LR, and their spread.

    The spread is the largest minus the smallest mean accuracy over the initial LRs, its standard error that
    of a difference of two means; nothing corrects for the pair being chosen after the fact.
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
        "mean JSV of training examples stand still; no test image has a say."
    )
    return f"{tables.markdown(head, rows)}\n\n{note}"


def spread_of(group: Sequence[RunRecord]) -> tuple[float, float | None]:
    """Largest minus smallest mean accuracy of the records, and its standard error; None with single seeds."""
    samples = sorted((Sample.of(record.accuracies) for record in group), key=lambda sample: sample.mean)
    low, high = samples[0], samples[-1]
    errors = [s.std**2 / s.n for s in (low, high) if s.std is not None and s.n]
    return high.mean - low.mean, sum(errors) ** 0.5 if len(errors) == 2 else None


def _rows(ratio: str, name: str, group: Sequence[RunRecord]) -> list[list[str]]:
    difference, error = spread_of(group)
    rows = [
        [
            ratio,
            name,
            f"{reading.initial_lr(record):g}",
            tables.spread(record.accuracies),
            ", ".join(map(str, reading.lengths(record))),
            f"{np.mean(reading.lengths(record)):.0f}",
            "",
        ]
        for record in group
    ]
    all_lengths = [length for record in group for length in reading.lengths(record)]
    total = f"{difference:.2f}" + ("" if error is None else f" ± {error:.2f}")
    return [*rows, [ratio, name, "**all**", "", "", f"**{np.mean(all_lengths):.0f}**", f"**{total}**"]]
