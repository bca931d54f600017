"""Methods beside each other: ranked where a setup holds, and the damage to the Jacobian beside the LR's effect."""

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from scipy import stats

from prune_jax import fairness
from prune_jax.fairness import Ranking, RunRecord, Welch
from prune_jax.report import reading, tables
from prune_jax.text_table import markdown

RANKING = (
    "method",
    "accuracy %",
    "letters",
    "p to the first",
    "after the action %",
    "trainability acc. %",
    "mean JSV before",
    "mean JSV after",
    "evidence",
    "seconds",
    "MACs",
    "params",
)
RANKING_NOTE = (
    "Accuracy: top-1 on the test images after the last epoch, mean ± sample standard deviation over seeds. It orders "
    "the rows of a group. *Letters*: a letter stands for a largest set of methods that can't be told apart. So two "
    "methods share one exactly where Welch's two-sided test gives p ≥ 0.05 or can't be made. Its p is corrected by "
    "Holm's step-down for all tested pairs of the group. Methods that share a letter are not shown to be equal. *p to "
    "the first*: the same p, of a method and the first one. *After the action*: before any retraining. Trainability "
    "accuracy: Eq. (1). Mean JSV: of the base model, and of what retraining starts from. Evidence: training examples "
    "that the criterion was given. Seconds: of the sparsifying action, median over seeds; the first one also compiles. "
    "MACs and params: of the small network."
)
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
    """One method: its damage (mean JSV after over before the action; None: not measured) and its LR effect."""

    name: str
    damage: float | None
    small: RunRecord
    large: RunRecord
    test: Welch


def ranking(records: Sequence[RunRecord]) -> str:
    """A table for each group of comparable records, the best first, and why the groups are not ranked together."""
    found = fairness.rank(records)
    parts = [_group(number, group) for number, group in enumerate(found.groups, start=1)]
    return "\n\n".join([*parts, *found.reasons, RANKING_NOTE]) if parts else "\n\n".join(found.reasons)


def damage(records: Sequence[RunRecord]) -> str:
    """A table for each rate and length of retraining under which methods were run at two initial LRs.

    The paper's Appendix B says that the effect of the retraining LR should carry to any method that ends in a pick by
    magnitude. What pruning does to the Jacobian is its explanation of the effect (§5.1).
    """
    comparable = fairness.comparable([r for r in records if r.results and r.stages], _but_for_the_lr)
    parts = [_effects_table(found) for group in comparable if (found := effects(group))]
    return "\n\n".join([*parts, DAMAGE_NOTE] if parts else [])


def effects(group: Sequence[RunRecord]) -> list[Effect]:
    """Each method that was retrained under the group's smallest and its largest initial LR; [] with a single LR."""
    lrs = sorted({reading.initial_lr(record) for record in group})
    if len(lrs) < 2:
        return []
    ends = [{r.method: r for r in group if reading.initial_lr(r) == lr} for lr in (lrs[0], lrs[-1])]
    both = [method for method in ends[0] if method in ends[1]]
    return [_effect(str(method), ends[0][method], ends[1][method]) for method in both]


def correlation(found: Sequence[Effect]) -> tuple[float, float] | None:
    """Spearman's rank correlation of damage and LR effect over methods, and its p; None below three methods."""
    pairs = [(effect.damage, effect.test.difference) for effect in found if effect.damage is not None]
    columns = list(zip(*pairs, strict=True))
    if len(pairs) < 3 or any(len(set(column)) == 1 for column in columns):
        return None
    result = stats.spearmanr(*columns)
    return float(result.statistic), float(result.pvalue)


def _effect(method: str, small: RunRecord, large: RunRecord) -> Effect:
    return Effect(method, jsv_ratio(small), small, large, fairness.welch(large.accuracies, small.accuracies))


def jsv_ratio(record: RunRecord) -> float | None:
    """Mean JSV that retraining starts from over the base model's, mean over seeds; None where one isn't stated."""
    pairs = [(_start_jsv(result), result.base_mean_jsv) for result in record.results]
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
            tables.spread(effect.large.accuracies),
            tables.spread(effect.small.accuracies),
            f"{effect.test.difference:+.2f}",
            tables.p_text(p),
        ]
        for effect, p in sorted(zip(found, corrected, strict=True), key=lambda row: row[0].damage or 0.0)
    ]
    related = correlation(found)
    told = "Spearman's ρ needs three methods whose Jacobian was measured, and values that differ."
    if related is not None:
        told = f"Spearman's ρ = {related[0]:+.2f} over {len(found)} methods, p = {tables.p_text(related[1])}."
    return "\n\n".join([f"**{_title(found[0].small)}**", markdown(head, rows), told])


def _group(number: int, group: Ranking) -> str:
    shown = f"{group.setup} holds, {group.tests} tests" if group.setup else "alone, ranked with no other"
    retraining = f", retraining {_schedule(group.records[0])}" if group.records[0].stages else ""
    rows = [_row(group, place) for place in range(len(group.records))]
    return (
        f"**Group {number}: {_title(group.records[0])}{retraining}** ({shown})\n\n{markdown(RANKING, rows)}"
    )


def _title(record: RunRecord) -> str:
    speedup = f", speedup {record.costs.speedup:.2f}x" if record.costs.speedup else ""
    return f"ratio {record.axes.ratio}{speedup}"


def _schedule(record: RunRecord) -> str:
    last = reading.last_stage(record)
    return f"`{last.schedule}` ({last.epochs} epochs)"


def _row(group: Ranking, place: int) -> list[str]:
    record = group.records[place]
    methods = [other.method for other in group.records]
    name = str(record.method) if methods.count(record.method) == 1 else f"{record.method}: {record.name}"
    seconds = record.seconds.get("sparsify")
    return [
        name,
        str(group.samples[place]),
        group.letters[place],
        "" if place == 0 else tables.p_text(group.ps[0, place]),
        _over_seeds(record, lambda r: r.epochs[0].test_accuracy if r.epochs else None, ".2f"),
        tables.spread(reading.trainability_accuracies(record)) if record.stages and record.results else "",
        _over_seeds(record, lambda r: r.base_mean_jsv, ".3g"),
        _over_seeds(record, _start_jsv, ".3g"),
        str(evidence(record)),
        f"{statistics.median(seconds):.2f}" if seconds else "",
        f"{record.costs.pruned_macs:,.0f}" if record.costs.pruned_macs else "",
        f"{record.costs.pruned_params:,.0f}" if record.costs.pruned_params else "",
    ]


def evidence(record: RunRecord) -> int:
    """Training examples that the criterion was given, in all rounds together; 0 where it needs no data."""
    told = [s.spec.get("evidence") or {} for s in record.stages or () if s.kind == "sparsify"]
    return sum(each.get("batches", 0) * each.get("batch_size", 0) for each in told)


def _start_jsv(result: fairness.SeedResult) -> float | None:
    """The mean JSV of what the last stage starts from: after the action and its recovery."""
    return result.epochs[0].mean_jsv if result.epochs else None


def _over_seeds(record: RunRecord, read: Callable[[fairness.SeedResult], float | None], form: str) -> str:
    """The mean over the seeds that state it; '' where none does."""
    found = [value for value in map(read, record.results) if value is not None]
    return format(statistics.mean(found), form) if found else ""
