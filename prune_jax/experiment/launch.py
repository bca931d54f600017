"""A launch: every run of a config, one record each, the report brought up to date as they end."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from prune_jax import data, fairness
from prune_jax.experiment import plan
from prune_jax.experiment.cohort import Context
from prune_jax.experiment.datasets import open_dataset
from prune_jax.experiment.progress import Progress
from prune_jax.experiment.record import make_record
from prune_jax.experiment.resolve import Arm
from prune_jax.experiment.specs import chain_ids
from prune_jax.experiment.stages import is_chain_finished, run_chain
from prune_jax.experiment.train import to_device
from prune_jax.experiment.workdir import closing, open_workdir, use_compilation_cache

Sweep = Callable[[ConfigDict], Sequence[dict[str, Any]]]
# (workdir, records so far, the config's report layout, runs in all, whether to draw figures) -> report path
WriteReport = Callable[[Path, list[fairness.RunRecord], dict[str, Any], int, bool], Path]


def dry_run(config: ConfigDict, sweep: Sweep | None) -> None:
    """Print what ``launch`` would do; nothing is started or written but a packaged data set."""
    dataset = open_dataset(config)
    for line in plan.describe(plan.plan_arms(config, sweep, dataset), dataset):
        print(line)


def launch(
    config: ConfigDict, sweep: Sweep | None, workdir: Path, command: str, write_report: WriteReport
) -> Path:
    """Run what of ``config`` is not finished under ``workdir``; returns the path of the report.

    Raises ValueError before any work for a config that can't be run; TrainingDivergedError,
    CheckpointError or OSError later, with everything finished kept.
    """
    dataset = open_dataset(config)
    if isinstance(dataset, data.StreamedDataset):
        raise ValueError(f"dataset.name: {dataset.name!r} is streamed, which training doesn't yet read")
    arms = plan.plan_arms(config, sweep, dataset)
    store = open_workdir(workdir, config.experiment)
    use_compilation_cache(workdir)
    on_device = to_device(dataset)
    layout = config.report.to_dict()
    records: list[fairness.RunRecord] = []
    with Progress(len(arms)) as progress, closing(store):
        for number, arm in enumerate(arms, 1):
            progress.run(number, arm.label)
            context = Context(store, on_device, arm.measure, config.checkpoint_seconds, progress)
            record, new = _record(context, arm, workdir / "records" / f"{record_id(arm)}.json", command)
            records.append(record)
            if new:
                progress.line(_summary(number, len(arms), record))
                write_report(workdir, records, layout, len(arms), False)
    return write_report(workdir, records, layout, len(arms), True)


def _record(context: Context, arm: Arm, path: Path, command: str) -> tuple[fairness.RunRecord, bool]:
    """The record of ``arm``, and whether it was made now rather than found finished."""
    if path.exists() and is_chain_finished(context, arm):
        return fairness.read(path), False
    run_chain(context, arm)
    fairness.write(make_record(context.store, arm, command), path)
    return fairness.read(path), True


def record_id(arm: Arm) -> str:
    """16 hex digits naming a run's record: its stages' ids, what it measures and its label."""
    ids = [chain_ids(arm.chain, seed) for seed in arm.seeds]
    return hashlib.sha256(repr((ids, arm.measure, arm.label)).encode()).hexdigest()[:16]


def _summary(number: int, runs: int, record: fairness.RunRecord) -> str:
    accuracies = record.accuracies
    mean = sum(accuracies) / len(accuracies)
    return f"run {number}/{runs} {record.name}: test accuracy {mean:.2f} % (mean of {len(accuracies)} seeds)"
