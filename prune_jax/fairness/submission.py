"""What a record must state, and may not contradict, before others take it into their ledger."""

from collections.abc import Sequence
from typing import Any

from prune_jax.fairness.record import RunRecord
from prune_jax.fairness.validation import validate

NEEDED = ("dataset", "network", "method")


def faults(record: RunRecord) -> tuple[str, ...]:
    """Why a record can't be taken, a line each with what to do. Empty for one that can.

    Args:
        record: a run with its seeds, or a printed result with its summary.

    Returns:
        What is missing: data set, network, method, a result with its number of runs, a rate, a source or a commit. And
        what contradicts itself, as ``suspicious`` finds it.

    Example:
        >>> from prune_jax.fairness import Costs, SeedResult
        >>> runs = (SeedResult(0, 92.0), SeedResult(1, 93.0))
        >>> stated = {"dataset": "cifar10", "network": "resnet56", "method": "l1", "costs": Costs(speedup=2.0)}
        >>> faults(RunRecord("A", **stated, results=runs))
        ("A states neither 'source' nor 'commit': say where it is printed, or which code made it",)
    """
    lines = [f"{record.name} states no {name!r}: add it" for name in NEEDED if getattr(record, name) is None]
    return (*lines, *_of_result(record), *_of_rate(record), *_of_origin(record), *_contradictions(record))


def suspicious(made: Sequence[RunRecord], table: str) -> tuple[Any, ...]:
    """What ``validate`` finds in records: accuracies as fractions, costs that contradict their speedup."""
    return validate([_row(record) for record in made], table)


def _of_result(record: RunRecord) -> list[str]:
    if record.results:
        return []
    if record.summary is None:
        return [
            f"{record.name} states no result: add 'results' with its seeds, or a 'summary' with mean, std and n"
        ]
    if record.summary.n is None:
        return [f"{record.name}: its summary states no 'n': say over how many runs its mean is"]
    return []


def _of_rate(record: RunRecord) -> list[str]:
    if record.costs.speedup is not None or record.costs.compression is not None:
        return []
    return [
        f"{record.name} states no rate: add a speedup or a compression to 'costs', or the counts they follow from"
    ]


def _of_origin(record: RunRecord) -> list[str]:
    if record.source or record.commit:
        return []
    return [
        f"{record.name} states neither 'source' nor 'commit': say where it is printed, or which code made it"
    ]


def _contradictions(record: RunRecord) -> list[str]:
    return [f"{record.name} contradicts itself: {found}" for found in suspicious([record], "record")]


def _row(record: RunRecord) -> dict[str, Any]:
    percent, summary, costs = record.measured.unit == "%", record.summary, record.costs
    means = [r.last_accuracy for r in record.results]
    value = sum(means) / len(means) if means else summary.mean if summary else None
    base = record.results[0].base_accuracy if means else summary.base_accuracy if summary else None
    return {
        "label": record.name,
        "acc": value if percent else None,
        "base_acc": base if percent else None,
        "speedup": costs.speedup,
        "macs": costs.pruned_macs,
        "base_macs": costs.dense_macs,
        "compression": costs.compression,
        "params": costs.pruned_params,
        "base_params": costs.dense_params,
    }
