"""Methods, and retrainings, beside each other: ranked only where a setup holds, with costs and trainability."""

import statistics
from collections.abc import Callable, Sequence

from prune_jax import fairness
from prune_jax.fairness import Ranking, Rankings, RunRecord, SeedResult, chain
from prune_jax.report import reading, tables
from prune_jax.text_table import markdown

TOGETHER = (
    "Methods are ranked together where S3.2 holds between every two: same data, network, rate and base model, and the "
    "same retraining. Scratch and pruning at initialisation are held to the same overall schedule instead."
)
RETRAININGS_TOGETHER = (
    "Retrainings are ranked together where they start from the same pruned networks, last equally long, and take the "
    "same settings (S3.1). LR schedule and rewinding are what is compared."
)
EQUAL_COMPUTE_TOGETHER = (
    "Runs are ranked together where SX-B holds between every two, with the same optimiser, batch and augmentation: the "
    "same rate and the same training compute in all. *Compute*: in epochs of the dense network; multiplications by "
    "masked weights don't count, and extra passes do."
)
RANKING_NOTE = (
    "{measured} after the last epoch, mean ± sample standard deviation over seeds. It orders "
    "the rows of a group. *Letters*: a letter stands for a largest set of rows that can't be told apart. So two rows "
    "share one exactly where Welch's two-sided test gives p ≥ 0.05 or can't be made. Its p is corrected by Holm's "
    "step-down for all tested pairs of the group. Rows that share a letter are not shown to be equal. *p to the "
    "first*: the same p, of a row and the first one. Mean JSV: of the base model, and of what retraining starts from."
)
COSTS_NOTE = (
    "*After the action*: before any retraining. Trainability accuracy: Eq. (1). Evidence: training examples that the "
    "criterion was given. Seconds: of the sparsifying action, median over seeds; the first one also compiles. MACs and "
    "params: of the small network."
)
Column = tuple[str, Callable[[Ranking, int], str]]


def ranking(records: Sequence[RunRecord]) -> str:
    """A table for each group of comparable records, the best first, and why the groups are not ranked together."""
    return _ranking(fairness.rank(records), METHODS, (TOGETHER, RANKING_NOTE, COSTS_NOTE))


def retraining_ranking(records: Sequence[RunRecord]) -> str:
    """The same for retrainings of the same pruned networks. A network that was retrained once has no table."""
    several = [group for group in fairness.rank_retrainings(records).groups if len(group.records) > 1]
    return _ranking(Rankings(tuple(several), ()), RETRAININGS, (RETRAININGS_TOGETHER, RANKING_NOTE))


def equal_compute_ranking(records: Sequence[RunRecord]) -> str:
    """The same for runs at equal training compute, whatever their stages are."""
    found = fairness.rank_equal_compute(records)
    return _ranking(found, AT_EQUAL_COMPUTE, (EQUAL_COMPUTE_TOGETHER, RANKING_NOTE))


def _ranking(found: Rankings, columns: Sequence[Column], notes: Sequence[str]) -> str:
    parts = [_group(number, group, columns) for number, group in enumerate(found.groups, start=1)]
    measured = tables.measured_on([record for group in found.groups for record in group.records])
    told = [note.replace("{measured}", measured) for note in notes] if parts else []
    return "\n\n".join([*parts, *found.reasons, *told])


def _group(number: int, group: Ranking, columns: Sequence[Column]) -> str:
    shown = f"{group.setup} holds, {_count(group.tests)}" if group.setup else "alone, ranked with no other"
    head = [_title(title, group.records) for title, _ in columns]
    rows = [[cell(group, place) for _, cell in columns] for place in range(len(group.records))]
    return f"**Group {number}: {_shared(group)}** ({shown})\n\n{markdown(head, rows)}"


def _title(title: str, records: Sequence[RunRecord]) -> str:
    """A column's title. Where the metric isn't accuracy, its name without the unit."""
    named = tables.measured(records)
    if named == "accuracy %":
        return title
    return named if title == "accuracy %" else title.removesuffix(" %")


def _count(tests: int) -> str:
    return f"{tests} pair{'s' * (tests != 1)} tested"


def _shared(group: Ranking) -> str:
    """What the records of a group have in common: how much was pruned, and as much of the retraining as is equal."""
    stages = [reading.last_stage(record) for record in group.records if record.stages]
    told = [{f"`{stage.schedule}`" for stage in stages}, {f"{stage.epochs} epochs" for stage in stages}]
    retraining = " over ".join(text for (text,) in filter(lambda texts: len(texts) == 1, told))
    return reading.amount(group.records[0]) + (f", retraining {retraining}" if retraining else "")


def _method(group: Ranking, place: int) -> str:
    """The method, and the run's name where a group holds several runs of it."""
    record = group.records[place]
    several = [other.method for other in group.records].count(record.method) > 1
    return f"{record.method}: {record.name}" if several else str(record.method)


def _p_to_first(group: Ranking, place: int) -> str:
    return "" if place == 0 else tables.p_text(group.ps[0, place])


def _trainability(record: RunRecord) -> str:
    stated = record.stages and record.results
    return tables.spread(reading.trainability_accuracies(record)) if stated else ""


def _seconds(record: RunRecord) -> str:
    seconds = record.seconds.get("sparsify")
    return f"{statistics.median(seconds):.2f}" if seconds else ""


def evidence(record: RunRecord) -> int:
    """Training examples that the criterion was given in all rounds together. 0 where it needs no data."""
    told = [s.spec.get("evidence") or {} for s in record.stages or () if s.kind == "sparsify"]
    return sum(each.get("batches", 0) * each.get("batch_size", 0) for each in told)


def _whole(count: float | None) -> str:
    return "" if count is None else f"{count:,.0f}"


def _short(number: float | None) -> str:
    return "" if number is None else f"{number:.4g}"


def _over_seeds(read: Callable[[SeedResult], float | None], form: str) -> Callable[[Ranking, int], str]:
    """A cell with the mean over the seeds that state it, or '' where none does."""

    def cell(group: Ranking, place: int) -> str:
        found = [value for value in map(read, group.records[place].results) if value is not None]
        return format(statistics.mean(found), form) if found else ""

    return cell


def _of_record(read: Callable[[RunRecord], str]) -> Callable[[Ranking, int], str]:
    return lambda group, place: read(group.records[place])


def _start_accuracy(result: SeedResult) -> float | None:
    return result.epochs[0].test_accuracy if result.epochs else None


_RANK: tuple[Column, ...] = (
    ("accuracy %", lambda group, place: str(group.samples[place])),
    ("letters", lambda group, place: group.letters[place]),
    ("p to the first", _p_to_first),
)
_JSV: tuple[Column, ...] = (
    ("mean JSV before", _over_seeds(lambda result: result.base_mean_jsv, ".3g")),
    ("mean JSV after", _over_seeds(reading.start_jsv, ".3g")),
)
METHODS: tuple[Column, ...] = (
    ("method", _method),
    *_RANK,
    ("after the action %", _over_seeds(_start_accuracy, ".2f")),
    ("trainability acc. %", _of_record(_trainability)),
    *_JSV,
    ("evidence", _of_record(lambda record: str(evidence(record)))),
    ("seconds", _of_record(_seconds)),
    ("MACs", _of_record(lambda record: _whole(record.costs.pruned_macs))),
    ("params", _of_record(lambda record: _whole(record.costs.pruned_params))),
)
AT_EQUAL_COMPUTE: tuple[Column, ...] = (
    ("run", _of_record(lambda record: record.name)),
    *_RANK,
    ("epochs", _of_record(lambda record: _whole(chain.epochs(record, chain.ALL)))),
    ("compute", _of_record(lambda record: _short(chain.dense_epochs(record, chain.ALL)))),
    ("params", _of_record(lambda record: _whole(record.costs.pruned_params))),
)
RETRAININGS: tuple[Column, ...] = (
    ("run", _of_record(lambda record: record.name)),
    *_RANK,
    ("at its start %", _over_seeds(_start_accuracy, ".2f")),
    *_JSV,
)
