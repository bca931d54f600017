"""Methods, and retrainings, beside each other: ranked only where a setup holds, with costs and trainability."""

import statistics
from collections.abc import Callable, Sequence

from prune_jax import fairness
from prune_jax.fairness import Ranking, Rankings, RunRecord
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
TOGETHER = (
    "Methods are ranked together where S3.2 holds between every two: same data, network, rate and base model, and the "
    "same retraining. Scratch and pruning at initialisation are held to the same overall schedule instead."
)
RETRAININGS_TOGETHER = (
    "Retrainings are ranked together where they start from the same pruned networks, last equally long, and take the "
    "same settings (S3.1). LR schedule and rewinding are what is compared."
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


def ranking(records: Sequence[RunRecord]) -> str:
    """A table for each group of comparable records, the best first, and why the groups are not ranked together."""
    return _ranking(fairness.rank(records), TOGETHER)


def retraining_ranking(records: Sequence[RunRecord]) -> str:
    """The same for retrainings of the same pruned networks; those of which there is one alone have no table."""
    found = fairness.rank_retrainings(records)
    several = [group for group in found.groups if len(group.records) > 1]
    return _ranking(fairness.Rankings(tuple(several), ()), RETRAININGS_TOGETHER)


def _ranking(found: Rankings, together: str) -> str:
    parts = [_group(number, group) for number, group in enumerate(found.groups, start=1)]
    notes = [together, RANKING_NOTE] if parts else []
    return "\n\n".join([*parts, *found.reasons, *notes])


def _group(number: int, group: Ranking) -> str:
    shown = f"{group.setup} holds, {_count(group.tests)}" if group.setup else "alone, ranked with no other"
    schedules = {_schedule(record) for record in group.records if record.stages}
    retraining = f", retraining {schedules.pop()}" if len(schedules) == 1 else ""
    rows = [_row(group, place) for place in range(len(group.records))]
    return f"**Group {number}: {reading.amount(group.records[0])}{retraining}** ({shown})\n\n{markdown(RANKING, rows)}"


def _count(tests: int) -> str:
    return f"{tests} pair{'s' * (tests != 1)} tested"


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
        _over_seeds(record, reading.start_jsv, ".3g"),
        str(evidence(record)),
        f"{statistics.median(seconds):.2f}" if seconds else "",
        f"{record.costs.pruned_macs:,.0f}" if record.costs.pruned_macs else "",
        f"{record.costs.pruned_params:,.0f}" if record.costs.pruned_params else "",
    ]


def evidence(record: RunRecord) -> int:
    """Training examples that the criterion was given, in all rounds together; 0 where it needs no data."""
    told = [s.spec.get("evidence") or {} for s in record.stages or () if s.kind == "sparsify"]
    return sum(each.get("batches", 0) * each.get("batch_size", 0) for each in told)


def _over_seeds(record: RunRecord, read: Callable[[fairness.SeedResult], float | None], form: str) -> str:
    """The mean over the seeds that state it; '' where none does."""
    found = [value for value in map(read, record.results) if value is not None]
    return format(statistics.mean(found), form) if found else ""
