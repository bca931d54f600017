"""What tables and figures read off a record."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from prune_jax.fairness import EpochMetrics, JSVSummary, RunRecord, SeedResult, Stage
from prune_jax.schedules import LRSchedule
from prune_jax.trainability import accuracy

Family = tuple[str, str]
DENSE = "dense"


def in_order(records: Sequence[RunRecord], names: Sequence[str]) -> list[RunRecord]:
    """The records that ``names`` name, in its order. Where it names none, all of them as they came.

    >>> [record.name for record in in_order([RunRecord("b"), RunRecord("a"), RunRecord("other")], ["a", "b"])]
    ['a', 'b']
    """
    place = {name: i for i, name in enumerate(names)}
    return sorted((r for r in records if r.name in place), key=lambda r: place[r.name]) or list(records)


def last_stage(record: RunRecord) -> Stage:
    """The stage whose accuracy the record reports: retrain, or scratch. ValueError for an unstated chain."""
    if not record.stages:
        raise ValueError(f"record {record.name!r} states no stages; the report needs its chain")
    return record.stages[-1]


def schedule(record: RunRecord) -> LRSchedule:
    """The LR schedule of the last stage. Under a rule it is that of the seed that took longest.

    Raises:
        ValueError: it is unstated.
    """
    return max(schedules(record), key=lambda schedule: schedule.epochs)


def schedules(record: RunRecord) -> list[LRSchedule]:
    """The LR schedule of the last stage for every seed, a single one where all share it. Errors as ``schedule``."""
    stage = last_stage(record)
    if stage.by_rule and record.results:
        return [LRSchedule.parse(str(r.schedule), r.epochs[-1].epoch) for r in record.results]
    if stage.schedule is None or stage.epochs is None:
        raise ValueError(f"record {record.name!r} states no schedule for its {stage.kind} stage")
    return [LRSchedule.parse(stage.schedule, stage.epochs)]


def lengths(record: RunRecord) -> list[int]:
    """How many epochs the last stage lasted for every seed."""
    all_of_them = [schedule.epochs for schedule in schedules(record)]
    return all_of_them if len(all_of_them) > 1 else all_of_them * max(1, len(record.results))


def initial_lr(record: RunRecord) -> float:
    """The LR of the last stage's first epoch."""
    return schedule(record).at(0)


def epochs(record: RunRecord) -> int:
    """How many epochs the last stage lasts. Under a rule that is the seed that took longest."""
    return schedule(record).epochs


def family(record: RunRecord) -> Family:
    """What retraining runs of one comparison share: (pruning ratio, method)."""
    return str(record.axes.ratio), str(record.method)


def families(records: Iterable[RunRecord]) -> dict[Family, list[RunRecord]]:
    """Records by family, in the order in which they came."""
    out: dict[Family, list[RunRecord]] = {}
    for record in records:
        out.setdefault(family(record), []).append(record)
    return out


def curve(record: RunRecord, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs ``(n,)`` at which ``quantity`` was measured, and its values ``(seeds, n)``.

    A seed that has none at an epoch, since it had ended before, say, shows its last value before it.
    """
    rows = [_points(result.epochs, quantity) for result in record.results]
    at = np.array(sorted({epoch for row in rows for epoch, _ in row}))
    return at, np.array([_held(row, at) for row in rows])


def whole_curve(result: SeedResult) -> tuple[EpochMetrics, ...]:
    """One seed's curve through all rounds: ``rounds`` and then ``epochs``, with epochs that go on counting.

    Where two rounds meet, one epoch is there twice: at the end of the round, and after the next cut.

    >>> from prune_jax.fairness import RoundCurve
    >>> one = (EpochMetrics(0, 10.0), EpochMetrics(2, 50.0))
    >>> [m.epoch for m in whole_curve(SeedResult(0, 50.0, epochs=one, rounds=(RoundCurve(2, one),)))]
    [0, 2, 2, 4]
    """
    joined: list[EpochMetrics] = []
    before = 0
    for metrics in (*(curve.epochs for curve in result.rounds), result.epochs):
        joined += [dataclasses.replace(m, epoch=before + m.epoch) for m in metrics]
        before += metrics[-1].epoch if metrics else 0
    return tuple(joined)


def through_rounds(record: RunRecord, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """As ``curve``, through all rounds of a chain. For a record of one round it is the same.

    An epoch where two rounds meet is there twice, if all seeds were measured at the same epochs. Else it is there
    once, with the values after the cut.
    """
    rows = [_points(whole_curve(result), quantity) for result in record.results]
    places = {tuple(epoch for epoch, _ in row) for row in rows}
    if len(places) == 1:
        return np.array(next(iter(places))), np.array([[value for _, value in row] for row in rows])
    at = np.array(sorted({epoch for row in rows for epoch, _ in row}))
    return at, np.array([_held(row, at) for row in rows])


def lr_drops(record: RunRecord) -> list[int]:
    """Epochs, counted through all rounds, at which a schedule lowers the LR. An unstated schedule has none.

    Where rounds last longer for one seed than for another, they are counted at their longest.
    """
    drops, before = [], 0
    for number, at in enumerate(_rounds(record)):
        stage = (record.stages or ())[at]
        if stage.schedule and stage.epochs and not stage.by_rule:
            drops += [
                before + start for start, _, _ in LRSchedule.parse(stage.schedule, stage.epochs).stages[1:]
            ]
        before += max(r.rounds[number].epochs[-1].epoch for r in record.results)
    return drops + [before + start for start, _, _ in schedule(record).stages[1:]]


def has_rounds(record: RunRecord) -> bool:
    """Whether the record's chain trains between its base model and its last stage."""
    return any(result.rounds for result in record.results)


def speedups(record: RunRecord) -> list[float]:
    """Every seed's speedup where the seeds' networks differ, else nothing."""
    dense = record.costs.dense_macs
    return [dense / r.macs for r in record.results if r.macs] if dense else []


def has(record: RunRecord, quantity: str) -> bool:
    """Whether ``quantity`` was measured along the last stage."""
    return bool(record.results) and all(_points(result.epochs, quantity) for result in record.results)


def has_spectra(record: RunRecord) -> bool:
    """Whether a spectrum was measured anywhere along the last stage."""
    return any(e.spectrum for result in record.results for e in result.epochs)


def spectra_before(record: RunRecord) -> dict[str, list[JSVSummary]]:
    """Spectra of the networks before the last stage, one for each seed, in the order in which they came to be.

    The names are ``DENSE``, 'after pruning', and 'after recovery' or, of a stage that begins anew, 'at the start'.
    Where nothing was recovered, retraining starts from the pruned network itself.
    """
    results = record.results
    found = {
        DENSE: [r.base_spectrum for r in results if r.base_spectrum],
        "after pruning": [r.pruned_spectrum for r in results if r.pruned_spectrum],
    }
    start = [r.epochs[0].spectrum for r in results if r.epochs and r.epochs[0].spectrum]
    if start != found["after pruning"]:
        found["after recovery" if found["after pruning"] else "at the start"] = start
    return {name: summaries for name, summaries in found.items() if summaries}


def start_jsv(result: SeedResult) -> float | None:
    """The mean JSV of what the last stage starts from: after the action and its recovery."""
    return result.epochs[0].mean_jsv if result.epochs else None


def amount(record: RunRecord) -> str:
    """How much was pruned, as text: the ratio, and the speedup, or of a mask the compression, where it is stated."""
    speedup, compression = record.costs.speedup, record.costs.compression
    if speedup == 1.0 and compression is not None:
        return f"ratio {record.axes.ratio}, compression {compression:.2f}x"
    return f"ratio {record.axes.ratio}" + (f", speedup {speedup:.2f}x" if speedup else "")


def trainability_accuracies(record: RunRecord) -> list[float]:
    """Trainability accuracy, Eq. (1), of every seed in percent."""
    each = schedules(record)
    shared = each * len(record.results) if len(each) == 1 else each
    return [
        accuracy.trainability_accuracy(
            [e.test_accuracy for e in result.epochs if e.epoch > 0 and e.test_accuracy is not None], lr
        )
        for result, lr in zip(record.results, shared, strict=True)
    ]


def _rounds(record: RunRecord) -> list[int]:
    """Places in the chain of the stages whose curves come before the last one."""
    return [curve.stage for curve in record.results[0].rounds] if record.results else []


def _points(metrics: Sequence[EpochMetrics], quantity: str) -> list[tuple[int, float]]:
    return [(m.epoch, getattr(m, quantity)) for m in metrics if getattr(m, quantity) is not None]


def _held(row: Sequence[tuple[int, float]], at: np.ndarray) -> list[float]:
    epochs, values = zip(*row, strict=True)
    places = np.searchsorted(epochs, at, side="right") - 1
    return [values[max(place, 0)] for place in places]
