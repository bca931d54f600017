"""``python -m prune_jax tidy RUNS... --out=FILE``: all records as one tidy CSV, a row for each record and seed."""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prune_jax import atomic
from prune_jax.fairness import chain
from prune_jax.fairness.cli import load
from prune_jax.fairness.record import RunRecord, SeedResult

STAGES = ("pretrain", "sparsify", "retrain", "scratch")
Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``tidy``."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="record files, result folders, paper:table4, published:pruningbench",
    )
    parser.add_argument("--out", metavar="FILE", help="where the CSV goes; by default the terminal")


def run(args: argparse.Namespace) -> int:
    """Write the CSV. Returns 0, or 2 on bad input."""
    try:
        text = to_csv(load(args.runs))
        if args.out:
            atomic.write_text(Path(args.out), text)
    except (KeyError, OSError, ValueError) as error:
        message = error.args[0] if isinstance(error, KeyError) else error
        print(f"tidy: {message}", file=sys.stderr)
        return 2
    print(f"{text.count(chr(10)) - 1} rows in {args.out}" if args.out else text, end="\n" if args.out else "")
    return 0


def to_csv(records: Sequence[RunRecord]) -> str:
    """The rows of ``tidy`` as CSV text with a header. Unstated cells are empty."""
    rows, out = tidy(records), io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def tidy(records: Sequence[RunRecord]) -> tuple[Row, ...]:
    """One row for each seed of a record. A record with a printed summary alone has one row without a seed.

    Args:
        records: any.

    Returns:
        Rows with the same columns. ``value`` is in the metric that ``metric``, ``unit`` and ``direction`` say. Of a
        summary it is the mean of ``n`` runs, with ``std``. None where a record states nothing.

    Example:
        >>> from prune_jax.fairness import RunRecord, SeedResult
        >>> rows = tidy([RunRecord("A", "cifar10", results=(SeedResult(0, 92.0), SeedResult(1, 93.0)))])
        >>> [(row["record"], row["seed"], row["value"]) for row in rows]
        [('A', 0, 92.0), ('A', 1, 93.0)]
    """
    return tuple(row for record in records for row in _rows(record))


def _rows(record: RunRecord) -> list[Row]:
    stated = _stated(record)
    if record.results:
        return [stated | _of_seed(record, result) for result in record.results]
    summary = record.summary
    printed = (
        [summary.mean, summary.std, summary.n, summary.base_accuracy, summary.top5] if summary else [None] * 5
    )
    value, std, n, base, top5 = printed
    return [stated | _values(value=value, std=std, n=n, base_value=base, top5=top5)]


def _of_seed(record: RunRecord, result: SeedResult) -> Row:
    costs = record.costs
    return {
        "pruned_macs": costs.pruned_macs if result.macs is None else result.macs,
        "pruned_params": costs.pruned_params if result.params is None else result.params,
    } | _values(
        seed=result.seed,
        value=result.last_accuracy,
        best_value=result.best_accuracy,
        base_value=result.base_accuracy,
        top5=result.top5,
        seconds=result.seconds,
    )


def _values(**stated: Any) -> Row:
    keys = ("seed", "value", "std", "n", "best_value", "base_value", "top5", "seconds")
    return {key: stated.get(key) for key in keys}


def _stated(record: RunRecord) -> Row:
    costs, axes, metric, optimiser = record.costs, record.axes, record.measured, record.optimiser
    return {
        "record": record.name,
        "dataset": record.dataset,
        "network": record.network,
        "method": record.method,
        "metric": metric.name,
        "unit": metric.unit,
        "direction": metric.direction,
        "granularity": axes.granularity,
        "criterion": axes.criterion,
        "pruning_ratio": axes.ratio,
        "speedup": costs.speedup,
        "compression": costs.compression,
        "dense_macs": costs.dense_macs,
        "pruned_macs": costs.pruned_macs,
        "dense_params": costs.dense_params,
        "pruned_params": costs.pruned_params,
        "latency_ms": costs.latency_ms,
        "latency_device": costs.latency_device,
        "training_flops": costs.training_flops,
        **{f"{kind}_epochs": _epochs(record, kind) for kind in STAGES},
        **{f"{kind}_schedule": _schedule(record, kind) for kind in ("retrain", "scratch")},
        "optimiser": optimiser.name if optimiser else None,
        "momentum": optimiser.momentum if optimiser else None,
        "weight_decay": optimiser.weight_decay if optimiser else None,
        "batch_size": optimiser.batch_size if optimiser else None,
        "augmentation": None if record.augmentation is None else "+".join(record.augmentation) or "no",
        "device": record.device,
        "commit": record.commit,
        "source": record.source,
    }


def _epochs(record: RunRecord, kind: str) -> int | None:
    there = any(stage.kind == kind for stage in record.stages or ())
    return chain.epochs(record, (kind,)) if there else None


def _schedule(record: RunRecord, kind: str) -> str | None:
    texts = [stage.schedule for stage in record.stages or () if stage.kind == kind]
    return " | ".join(text for text in texts if text) or None
