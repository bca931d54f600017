"""What pruning did to the Jacobian beside the effect of the retraining LR, for each method."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from prune_jax import fairness
from prune_jax.fairness import RunRecord, Welch
from prune_jax.report import reading, tables
from prune_jax.text_table import markdown

DAMAGE = (
    "method",
    "mean JSV after / before",
    "LR {large} %",
    "LR {small} %",
    "LR effect (points)",
    "p (Holm)",
)
DAMAGE_NOTE = (
    "Mean JSV after / before: of what retraining starts from over that of the base model, mean over seeds. 1 is no "
    "damage. LR effect: accuracy under the larger minus under the smaller initial retraining LR. p: Welch's two-sided "
    "test of it, corrected by Holm's step-down for the methods of the table. Spearman's ρ is between the two columns "
    "over the methods. A negative one says that methods which damage the Jacobian more gain more from the larger LR. "
    "Its p takes Student's t, which is rough for a few methods."
)


class Effect(NamedTuple):
    """One method: what pruning did to its Jacobian, and how much the larger LR helps it.

    Attributes:
        name: the method.
        damage: mean JSV after the action over the one before it. None: not measured.
        small: its run at the smallest initial LR.
        large: its run at the largest.
        test: Welch's test of the second against the first.
    """

    name: str
    damage: float | None
    small: RunRecord
    large: RunRecord
    test: Welch


def damage(records: Sequence[RunRecord]) -> str:
    """A table for each rate and length of retraining under which methods were run at two initial LRs.

    The paper's Appendix B says that the effect of the retraining LR should carry to any method that ends in a pick by
    magnitude. What pruning does to the Jacobian is its explanation of the effect (§5.1).
    """
    comparable = fairness.comparable([r for r in records if r.results and r.stages], _but_for_the_lr)
    parts = [_effects_table(found) for group in comparable if (found := effects(group))]
    return "\n\n".join([*parts, DAMAGE_NOTE] if parts else [])


def effects(group: Sequence[RunRecord]) -> list[Effect]:
    """Each method that was retrained under the group's smallest and its largest initial LR. [] with a single LR."""
    lrs = sorted({reading.initial_lr(record) for record in group})
    if len(lrs) < 2:
        return []
    ends = [{_method(r): r for r in group if reading.initial_lr(r) == lr} for lr in (lrs[0], lrs[-1])]
    both = [method for method in ends[0] if method in ends[1]]
    return [_effect(ends[0][method], ends[1][method]) for method in both]


def correlation(found: Sequence[Effect]) -> tuple[float, float] | None:
    """Spearman's rank correlation of damage and LR effect over the methods whose damage was measured, and its p.

    None below three methods, and where a column doesn't vary.
    """
    pairs = [(effect.damage, effect.test.difference) for effect in found if effect.damage is not None]
    columns = list(zip(*pairs, strict=True))
    if len(pairs) < 3 or any(len(set(column)) == 1 for column in columns):
        return None
    from scipy import stats  # as long to import as JAX, for what few reports ask

    result = stats.spearmanr(*columns)
    return float(result.statistic), float(result.pvalue)


def _method(record: RunRecord) -> tuple[str | None, ...]:
    """What tells a method from the others of its rate: two ways to share out the same amount are two methods."""
    return record.method, record.axes.granularity, record.axes.ratio


def _effect(small: RunRecord, large: RunRecord) -> Effect:
    test = fairness.welch(large.accuracies, small.accuracies)
    return Effect(str(small.method), jsv_ratio(small), small, large, test)


def jsv_ratio(record: RunRecord) -> float | None:
    """Mean JSV that retraining starts from over the base model's: mean over seeds, None where one isn't stated."""
    pairs = [(reading.start_jsv(result), result.base_mean_jsv) for result in record.results]
    ratios = [after / before for after, before in pairs if after is not None and before]
    return statistics.mean(ratios) if ratios and len(ratios) == len(pairs) else None


def _but_for_the_lr(a: RunRecord, b: RunRecord) -> bool:
    """Whether nothing that S3.2 asks for differs but the LR schedule of the retraining."""
    return all(broken.field == "retrain_schedule" for broken in fairness.strictest_setup(a, b).breaks["S3.2"])


def _effects_table(found: Sequence[Effect]) -> str:
    small, large = (f"{reading.initial_lr(record):g}" for record in (found[0].small, found[0].large))
    head = [text.format(small=small, large=large) for text in DAMAGE]
    corrected = fairness.holm([effect.test.p for effect in found])
    rows = [
        [
            effect.name,
            "" if effect.damage is None else f"{effect.damage:.3g}",
            tables.accuracy_text(effect.large),
            tables.accuracy_text(effect.small),
            f"{effect.test.difference:+.2f}",
            tables.p_text(p),
        ]
        for effect, p in sorted(zip(found, corrected, strict=True), key=lambda row: row[0].damage or 0.0)
    ]
    related, measured = correlation(found), sum(effect.damage is not None for effect in found)
    told = "Spearman's ρ needs three methods whose Jacobian was measured, and values that differ."
    if related is not None:
        told = f"Spearman's ρ = {related[0]:+.2f} over {measured} methods, p = {tables.p_text(related[1])}."
    return "\n\n".join([f"**{reading.amount(found[0].small)}**", markdown(head, rows), told])
