"""What tables and figures read off a record."""

from collections.abc import Iterable, Sequence

import numpy as np

from prune_jax.fairness import EpochMetrics, RunRecord, Stage
from prune_jax.schedules import LRSchedule
from prune_jax.trainability import accuracy

Family = tuple[str, str]


def last_stage(record: RunRecord) -> Stage:
    """The stage whose accuracy the record reports: retrain, or scratch. ValueError for an unstated chain."""
    if not record.stages:
        raise ValueError(f"record {record.name!r} states no stages; the report needs its chain")
    return record.stages[-1]


def schedule(record: RunRecord) -> LRSchedule:
    """The LR schedule of the last stage. ValueError when it is unstated."""
    stage = last_stage(record)
    if stage.schedule is None or stage.epochs is None:
        raise ValueError(f"record {record.name!r} states no schedule for its {stage.kind} stage")
    return LRSchedule.parse(stage.schedule, stage.epochs)


def initial_lr(record: RunRecord) -> float:
    """The LR of the last stage's first epoch."""
    return schedule(record).at(0)


def epochs(record: RunRecord) -> int:
    """How long the last stage lasts."""
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
    """Epochs ``(n,)`` at which ``quantity`` was measured, and its values ``(seeds, n)``."""
    rows = [_points(result.epochs, quantity) for result in record.results]
    return np.array([epoch for epoch, _ in rows[0]]), np.array([[value for _, value in row] for row in rows])


def has(record: RunRecord, quantity: str) -> bool:
    """Whether ``quantity`` was measured along the last stage."""
    return bool(record.results) and all(_points(result.epochs, quantity) for result in record.results)


def trainability_accuracies(record: RunRecord) -> list[float]:
    """Trainability accuracy, Eq. (1), of every seed in percent."""
    lr = schedule(record)
    return [
        accuracy.trainability_accuracy(
            [e.test_accuracy for e in result.epochs if e.epoch > 0 and e.test_accuracy is not None], lr
        )
        for result in record.results
    ]


def _points(metrics: Sequence[EpochMetrics], quantity: str) -> list[tuple[int, float]]:
    return [(m.epoch, getattr(m, quantity)) for m in metrics if getattr(m, quantity) is not None]
