"""A launch: every run of a config, one record each, the report brought up to date as they end."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from prune_jax import fairness
from prune_jax.experiment.arm import Arm
from prune_jax.experiment.chain.record import device_name, make_record
from prune_jax.experiment.chain.run import is_chain_finished, run_chain
from prune_jax.experiment.cluster import submit as cluster_submit
from prune_jax.experiment.cluster.shards import WHOLE, Shard, part
from prune_jax.experiment.cluster.turns import take_turns
from prune_jax.experiment.config import sweep as config_sweep
from prune_jax.experiment.config.dataset import open_dataset, spec_of
from prune_jax.experiment.dry_run import describe
from prune_jax.experiment.processes import collective, preemption, slurm
from prune_jax.experiment.progress import Progress
from prune_jax.experiment.specs import Stage, kind
from prune_jax.experiment.storage import leases
from prune_jax.experiment.storage.curves import Metrics
from prune_jax.experiment.storage.folder import claim, closing, open_workdir
from prune_jax.experiment.storage.reports import Board, WriteReport
from prune_jax.experiment.storage.stages import read_stage
from prune_jax.experiment.training.cohort import GO_ON, Context, History, Member
from prune_jax.experiment.training.divergence import TrainingDivergedError
from prune_jax.experiment.training.inputs import prepared

Sweep = Callable[[ConfigDict], Sequence[dict[str, Any]]]
WriteMetrics = Callable[[str, str, int | None, Sequence[Mapping[str, Any]]], None]


class Launched(NamedTuple):
    """What a launch came to: the path of its report, and all records that are present, in the sweep's order."""

    report: Path
    records: tuple[fairness.RunRecord, ...]


def dry_run(config: ConfigDict, sweep: Sweep | None, shard: Shard = WHOLE) -> None:
    """Print what ``launch`` would do. Nothing is started or written but a packaged data set."""
    dataset = open_dataset(config)
    for line in describe(config_sweep.plan_arms(config, sweep, dataset), dataset, shard):
        print(line)


def launch(
    config: ConfigDict,
    sweep: Sweep | None,
    workdir: Path,
    command: str,
    write_report: WriteReport,
    shard: Shard = WHOLE,
    claimed: Callable[[Path], None] = lambda root: None,
) -> Launched:
    """Run what is not finished of an experiment, or of one shard of its sweep.

    Other processes may launch the same in the same workdir at the same time. Nothing is computed twice at once.

    Args:
        config: the experiment's.
        sweep: a function of the config that lists overrides, one entry a run. None: one run.
        workdir: folder of stages and records.
        command: what started the launch. Records keep it.
        write_report: brings the report up to date.
        shard: the part of the sweep that is run.
        claimed: called with ``workdir`` once that belongs to the experiment, before any work.

    Returns:
        The report's path and all records that are present.

    Raises:
        ValueError: before any work, for a config that can't be run.
        CheckpointError, OSError: later. Everything that was finished is kept.
        TrainingDivergedError: at the end, when all runs that don't diverge are done.
    """
    dataset = collective.main_first(lambda: open_dataset(config))
    arms = config_sweep.plan_arms(config, sweep, dataset)
    slurm.refuse_missing_gpus(os.environ, jax.default_backend(), config.cluster.gpus)
    store = open_workdir(workdir, config.experiment)
    claimed(workdir)
    measured = max(arm.measure.jsv_examples for arm in arms)
    meshes = [arm.mesh for arm in arms]
    on = prepared(dataset, spec_of(config, dataset), meshes, config.dataset.workers, measured)
    names = [record_id(arm) for arm in arms]
    board = Board(store, names, config.report.to_dict(), write_report)
    todo = part(list(enumerate(arms)), shard)
    with (
        Progress(len(arms), len(todo), collective.console()) as progress,
        closing(store),
        preemption.noticed() as stopping,
    ):
        progress.line(f"on {device_name()}")
        lost: dict[int, TrainingDivergedError] = {}

        def attempt(run: tuple[int, Arm]) -> None:
            index, arm = run
            if collective.any_of(stopping()):
                raise preemption.PreemptedError(f"asked to end before run {index + 1}; {GO_ON}")
            progress.run(index + 1, arm.label)
            shared = (on[arm.mesh.devices], arm.measure, config.checkpoint_seconds, progress)
            context = Context(store, *shared, arms=arms, keep=config.checkpoint.keep, stopping=stopping)
            try:
                made = _finish(context, arm, board, names[index], command)
            except TrainingDivergedError as error:
                lost[index] = error
                progress.line(f"run {index + 1}/{len(arms)} {arm.label} diverged; the others go on")
                made = False
            if made:
                progress.line(_summary(index + 1, len(arms), board.record(names[index])))
                collective.from_main(lambda: str(board.report(draw=False)))
            progress.over()

        take_turns(todo, attempt, progress)
        written = Path(collective.from_main(lambda: str(board.report(draw=True))))
    if lost:
        raise TrainingDivergedError(_diverged(lost, arms, len(todo), written))
    return Launched(written, board.records())


def submit(
    config: ConfigDict, sweep: Sweep | None, workdir: Path, arguments: Sequence[str], launcher: str
) -> None:
    """Submit the sweep as ``config.cluster.shards`` jobs that run ``arguments`` as shards.

    A local launcher waits for them.

    Raises ValueError before anything is submitted for a config that can't be run or a workdir that can't be written,
    JobFailedError for a local job that failed.
    """
    arms = config_sweep.plan_arms(config, sweep, open_dataset(config))
    claim(workdir, config.experiment)
    shards = min(config.cluster.shards, len(arms))
    command = cluster_submit.command_of(arguments, workdir)
    jobs = cluster_submit.submit(launcher, config.cluster, command, workdir, shards)
    print(
        f"{len(arms)} runs in {shards} jobs: {', '.join(job.job_id for job in jobs)}; logs in {workdir / 'jobs'}"
    )
    if launcher == "local":
        cluster_submit.wait(jobs)
    print(f"report: {workdir / 'report.md'}" + ", as the jobs get there" * (launcher != "local"))


def _finish(context: Context, arm: Arm, board: Board, name: str, command: str) -> bool:
    """Bring ``arm`` to its record, its curves written as they grow.

    Returns whether it was made now, not found finished.
    """
    if collective.from_main(lambda: board.path(name).exists()) and is_chain_finished(context, arm):
        return False
    with leases.held(context.store.locks, [f"run-{name}"]):  # its metrics and its record have one writer
        write = _writer(context, arm, name)
        mine = {its_id for ids in arm.ids for its_id in ids}

        def on_epoch(spec: Stage, members: tuple[Member, ...], histories: list[History]) -> None:
            for member, history in zip(members, histories, strict=True):
                if member.id in mine:
                    write(kind(spec), member.id, member.seed, history)

        _replay(context, arm, write)
        run_chain(context._replace(on_epoch=on_epoch), arm)
        _replay(context, arm, write)
        record = make_record(context.store, arm, command)
        collective.from_main(lambda: str(fairness.write(record, board.path(name))))
    return True


def _writer(context: Context, arm: Arm, name: str) -> WriteMetrics:
    """What takes the curves down in process 0. In the others nothing does."""
    if not collective.is_main():
        return lambda *_: None
    return Metrics(context.store.root, name, arm.label, arm.config["tensorboard"]).write


def _replay(context: Context, arm: Arm, write: WriteMetrics) -> None:
    """Write the curves of the stages that are finished already, whichever run trained them."""
    for ids in arm.ids:
        for spec, its_id in zip(arm.chain, ids, strict=True):
            about = read_stage(context.store, its_id)
            if about is not None and "history" in about:
                write(kind(spec), its_id, about["seed"], about["history"])


def record_id(arm: Arm) -> str:
    """16 hex digits naming a run's record: its stages' ids, what it measures and its label."""
    return hashlib.sha256(repr((list(arm.ids), arm.measure, arm.label)).encode()).hexdigest()[:16]


def _diverged(lost: Mapping[int, Exception], arms: Sequence[Arm], runs: int, report: Path) -> str:
    first = min(lost)
    which = f"{len(lost)} of {runs} runs diverged, the others are done (report: {report})"
    others = ", ".join(str(index + 1) for index in sorted(lost))
    return (
        f"{which}: run{'s' * (len(lost) > 1)} {others}. Run {first + 1}, {arms[first].label}: {lost[first]}"
    )


def _summary(number: int, runs: int, record: fairness.RunRecord) -> str:
    accuracies = record.accuracies
    mean = sum(accuracies) / len(accuracies)
    said = fairness.value_text(mean, record.measured)
    said = f"accuracy {said}" if record.measured == fairness.METRICS["top-1 accuracy"] else said
    return f"run {number}/{runs} {record.name}: test {said} (mean of {len(accuracies)} seeds)"
