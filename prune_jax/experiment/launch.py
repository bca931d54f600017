"""A launch: every run of a config, one record each, the report brought up to date as they end."""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from prune_jax import data, fairness
from prune_jax.experiment import plan
from prune_jax.experiment.board import Board, WriteReport
from prune_jax.experiment.cohort import Context
from prune_jax.experiment.datasets import open_dataset
from prune_jax.experiment.locks import BusyError
from prune_jax.experiment.progress import Progress
from prune_jax.experiment.record import make_record
from prune_jax.experiment.resolve import Arm
from prune_jax.experiment.shards import WHOLE, Shard, part
from prune_jax.experiment.specs import chain_ids
from prune_jax.experiment.stages import is_chain_finished, run_chain
from prune_jax.experiment.train import to_device
from prune_jax.experiment.workdir import closing, open_workdir, use_compilation_cache

Sweep = Callable[[ConfigDict], Sequence[dict[str, Any]]]
PATIENCE = (0.5, 10.0)  # seconds between two looks at what other processes are at: at first, and at most


def dry_run(config: ConfigDict, sweep: Sweep | None, shard: Shard = WHOLE) -> None:
    """Print what ``launch`` would do; nothing is started or written but a packaged data set."""
    dataset = open_dataset(config)
    for line in plan.describe(plan.plan_arms(config, sweep, dataset), dataset, shard):
        print(line)


def launch(
    config: ConfigDict,
    sweep: Sweep | None,
    workdir: Path,
    command: str,
    write_report: WriteReport,
    shard: Shard = WHOLE,
) -> Path:
    """Run what of ``config``, or of one shard of its sweep, is not finished under ``workdir``.

    Other processes may do the same there at the same time: nothing is computed twice at once. Returns the path of
    the report, over all records that are present. Raises ValueError before any work for a config that can't be
    run; TrainingDivergedError, CheckpointError or OSError later, with everything finished kept.
    """
    dataset = open_dataset(config)
    if isinstance(dataset, data.StreamedDataset):
        raise ValueError(f"dataset.name: {dataset.name!r} is streamed, which training doesn't yet read")
    arms = plan.plan_arms(config, sweep, dataset)
    store = open_workdir(workdir, config.experiment)
    use_compilation_cache(workdir)
    on_device = to_device(dataset)
    names = [record_id(arm) for arm in arms]
    board = Board(store, names, config.report.to_dict(), write_report)
    todo = part(list(enumerate(arms)), shard)
    with Progress(len(arms), len(todo)) as progress, closing(store):

        def attempt(index: int, arm: Arm) -> None:
            progress.run(index + 1, arm.label)
            context = Context(store, on_device, arm.measure, config.checkpoint_seconds, progress)
            if _finish(context, arm, board.path(names[index]), command):
                progress.line(_summary(index + 1, len(arms), board.record(names[index])))
                board.report(draw=False)
            progress.over()

        _take_turns(todo, attempt, progress)
        return board.report(draw=True)


def _take_turns(todo: list[tuple[int, Arm]], attempt: Callable[[int, Arm], None], progress: Progress) -> None:
    """Every run, those first that no other process holds up; then wait for the others."""
    wait, most = PATIENCE
    while todo:
        busy = []
        for index, arm in todo:
            try:
                attempt(index, arm)
            except BusyError as error:
                busy.append((index, arm))
                reason = error
        if len(busy) < len(todo):
            wait = PATIENCE[0]
        elif busy:
            progress.waiting(len(busy), str(reason))
            time.sleep(wait)
            wait = min(1.5 * wait, most)
        todo = busy


def _finish(context: Context, arm: Arm, path: Path, command: str) -> bool:
    """Bring ``arm`` to its record; whether that was made now rather than found finished."""
    if path.exists() and is_chain_finished(context, arm):
        return False
    run_chain(context, arm)
    fairness.write(make_record(context.store, arm, command), path)
    return True


def record_id(arm: Arm) -> str:
    """16 hex digits naming a run's record: its stages' ids, what it measures and its label."""
    ids = [chain_ids(arm.chain, seed) for seed in arm.seeds]
    return hashlib.sha256(repr((ids, arm.measure, arm.label)).encode()).hexdigest()[:16]


def _summary(number: int, runs: int, record: fairness.RunRecord) -> str:
    accuracies = record.accuracies
    mean = sum(accuracies) / len(accuracies)
    return f"run {number}/{runs} {record.name}: test accuracy {mean:.2f} % (mean of {len(accuracies)} seeds)"
