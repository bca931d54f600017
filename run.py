"""Launch an experiment: python run.py --config=configs/NAME.py [--config.key=value ...] [--workdir=DIR]."""

import logging as python_logging
import os
import shlex
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from prune_jax import report
from prune_jax.experiment import (
    command_line,
    distributed,
    failures,
    launch,
    local_gpus,
    preemption,
    profiling,
    replicas,
    shards,
    submission,
)

CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="File with get_config() and, if it sweeps, sweep()."
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of stages, records and report; default runs/EXPERIMENT."
)
SWEEP = flags.DEFINE_string("sweep", "all", "Which runs of the sweep: all, or 3/16, the third of 16 shards.")
LAUNCHER = flags.DEFINE_enum(
    "launcher",
    None,
    ["slurm", "local"],
    "Submit the sweep as a job array (see config.cluster), or run its jobs here.",
)
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Be one of several processes of one run; Slurm, GKE and TPU pods say which."
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, where the cluster doesn't say."
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes, where the cluster doesn't say.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "This process, from 0, where the cluster doesn't say.")
PROFILE = flags.DEFINE_integer("profile", None, "Trace so many training steps into WORKDIR/profile, and end.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the resolved stages, their cost and the number of runs.")


def main(argv: list[str]) -> None:
    """Resolve the flags and launch; a known failure ends in one clear line and exit code 1."""
    replicas.one_device_per_core()
    if LAUNCHER.value == "local":
        os.environ.update({**local_gpus.SHARED, **os.environ})
    with failures.one_line(), preemption.raised():
        command_line.refuse_extra_arguments(argv[1:])
        _refuse_flags_without_effect()
        if DISTRIBUTED.value:
            meeting = (COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
            distributed.start(distributed.Cluster(*meeting, **CONFIG.value.distributed))
        config, sweep, shard = distributed.agreed(_resolved)
        if LAUNCHER.value:
            submission.check(LAUNCHER.value, SWEEP.value)
        if DRY_RUN.value:
            launch.dry_run(config, sweep, shard)
            return
        workdir = Path(WORKDIR.value or Path("runs") / (config.experiment + "_quick" * config.quick))
        if PROFILE.value is not None:
            print(f"profile: {profiling.profile(config, sweep, workdir, PROFILE.value)}")
            return
        if LAUNCHER.value:
            launch.submit(config, sweep, workdir, sys.argv, LAUNCHER.value)
            return
        command = shlex.join(sys.argv)
        print(f"report: {launch.launch(config, sweep, workdir, command, report.write, shard)}")


def _resolved() -> tuple[ConfigDict, launch.Sweep | None, shards.Shard]:
    flag = flags.FLAGS["config"]
    folder = str(Path(config_flags.get_config_filename(flag).split(":")[0]).resolve().parent)
    sys.path.append(
        folder
    )  # where my_parts:small_cnn is looked for; last, so that it hides no installed module
    module = command_line.load_module(config_flags.get_config_filename(flag))
    config = command_line.resolved(CONFIG.value, module, config_flags.get_override_values(flag))
    report.check_sections(config.report.sections)
    return config, getattr(module, "sweep", None), shards.parse(SWEEP.value)


def _refuse_flags_without_effect() -> None:
    meeting = {"coordinator": COORDINATOR, "num_processes": NUM_PROCESSES, "process_id": PROCESS_ID}
    given = [name for name, flag in meeting.items() if flag.value is not None]
    if given and not DISTRIBUTED.value:
        raise ValueError(f"--{given[0]} says how processes meet, which they do with --distributed: add it")
    if PROFILE.value is not None and (LAUNCHER.value or SWEEP.value != "all"):
        other = f"--launcher={LAUNCHER.value}" if LAUNCHER.value else f"--sweep={SWEEP.value}"
        raise ValueError(
            f"--profile traces the sweep's first run here and goes without {other}: leave one out"
        )


if __name__ == "__main__":
    logging.set_verbosity(
        logging.FATAL
    )  # what goes wrong below reaches us as an exception, and the user as one line
    python_logging.getLogger("jax._src.xla_bridge").setLevel(python_logging.WARNING)  # a GPU that goes unused
    failures.hush_closed_loops()
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=command_line.parse_flags)
