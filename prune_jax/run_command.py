"""``python run.py`` and ``python -m prune_jax run``: flags -> a launch, and what it does to its whole process.

Nothing else in the package changes a process for good: warnings, hooks, log levels, the environment, JAX's settings.
"""

import functools
import logging as python_logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from prune_jax import fairness, report
from prune_jax.experiment import failures, launch
from prune_jax.experiment.cluster import local_gpus, shards, submit
from prune_jax.experiment.commands import profile
from prune_jax.experiment.config import flags as command_line
from prune_jax.experiment.devices import replicas
from prune_jax.experiment.processes import collective, preemption
from prune_jax.experiment.storage import folder
from prune_jax.report import reading
from prune_jax.text_table import aligned

FLAGS = flags.FLAGS
MEETING = ("coordinator", "num_processes", "process_id")
STARTING = ("launcher", "sweep", "profile", "dry_run")  # of a launch that runs, or would


def start(program: Sequence[str], arguments: Sequence[str]) -> NoReturn:
    """Launch what the flags ``arguments`` say, and exit: with 0, or a known failure in one clear line and code 1.

    ``program`` is what Python runs, with its own options, such as ``("run.py",)`` or ``("-m", "prune_jax", "run")``:
    records state it, and the jobs of a launcher run it.
    """
    if {"--help", "-help", "-h"} & set(arguments):
        print(usage(program))
        sys.exit(0)
    sys.argv[1:] = arguments  # ml_collections looks for overrides there
    quiet()
    define_flags(FLAGS)
    app.run(functools.partial(main, program), flags_parser=command_line.parse_flags)


def quiet() -> None:
    """For the whole process: what goes wrong reaches us as an exception, and the user as one line."""
    logging.set_verbosity(logging.FATAL)
    python_logging.getLogger("jax._src.xla_bridge").setLevel(python_logging.WARNING)  # a GPU that goes unused
    failures.hush_closed_loops()


def define_flags(values: flags.FlagValues) -> None:
    """Declare the command's flags in ``values``."""
    text = functools.partial(flags.DEFINE_string, flag_values=values)
    whole = functools.partial(flags.DEFINE_integer, flag_values=values)
    switch = functools.partial(flags.DEFINE_bool, flag_values=values)
    config_flags.DEFINE_config_file(
        "config", help_string="File with get_config() and, if it sweeps, sweep().", flag_values=values
    )
    text("workdir", None, "Folder of stages, records and report; default runs/EXPERIMENT.")
    text("sweep", "all", "Which runs of the sweep: all, or 3/16, the third of 16 shards.")
    how = "Submit the sweep as a job array (see config.cluster), or run its jobs here."
    flags.DEFINE_enum("launcher", None, ["slurm", "local"], how, flag_values=values)
    switch("distributed", False, "Be one of several processes of one run; Slurm, GKE and TPU pods say which.")
    text("coordinator", None, "HOST:PORT of process 0, where the cluster doesn't say.")
    whole("num_processes", None, "Processes, where the cluster doesn't say.")
    whole("process_id", None, "This process, from 0, where the cluster doesn't say.")
    whole("profile", None, "Trace so many training steps into WORKDIR/profile, and end.")
    switch("report_only", False, "Write the report anew over WORKDIR's records, and train nothing.")
    switch("dry_run", False, "Print the resolved stages, their cost and the number of runs.")
    flags.mark_flag_as_required("config", flag_values=values)


def usage(program: Sequence[str]) -> str:
    """The command line and its flags, as ``--help`` prints them."""
    values = flags.FlagValues()
    define_flags(values)
    lines = [(f"  --{name}", values[name].help) for name in values]
    command = " ".join(
        ("python", *program, "--config=configs/NAME.py", "[--config.key=value ...]", "[flags]")
    )
    return f"usage: {command}\n\n{aligned(lines)}"


def main(program: Sequence[str], rest: Sequence[str]) -> None:
    """Launch what the parsed flags say. ``rest`` is the command line without them."""
    replicas.one_device_per_core()
    if FLAGS.launcher == "local":
        os.environ.update({**local_gpus.SHARED, **os.environ})
    with failures.one_line(), preemption.raised():
        command_line.refuse_extra_arguments(list(rest[1:]))
        _refuse_flags_without_effect()
        if FLAGS.distributed:
            meeting = (FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
            collective.start(collective.Cluster(*meeting, **FLAGS.config.distributed))
        config, sweep, shard = collective.agreed(_resolved)
        if FLAGS.report_only:
            print(f"report: {_rewritten(config, sweep, Path(FLAGS.workdir or folder.default(config)))}")
            return
        if FLAGS.launcher:
            submit.check(FLAGS.launcher, FLAGS.sweep)
        if FLAGS.dry_run:
            launch.dry_run(config, sweep, shard)
            return
        _launch(program, config, sweep, shard)


def _launch(
    program: Sequence[str], config: ConfigDict, sweep: launch.Sweep | None, shard: shards.Shard
) -> None:
    root, cached = Path(FLAGS.workdir or folder.default(config)), folder.use_compilation_cache
    if FLAGS.profile is not None:
        print(f"profile: {profile.profile(config, sweep, root, FLAGS.profile, cached)}")
    elif FLAGS.launcher:
        launch.submit(config, sweep, root, [*program, *sys.argv[1:]], FLAGS.launcher)
    else:
        python = ["python"] * program[0].startswith("-")
        command = shlex.join([*python, *program, *sys.argv[1:]])
        print(f"report: {launch.launch(config, sweep, root, command, report.write, shard, cached).report}")


def _rewritten(config: ConfigDict, sweep: launch.Sweep | None, root: Path) -> Path:
    """The report over the records of ``root``, in the sweep's order. Where it names some of them, of those alone."""
    labels = [str(run.get("label")) for run in sweep(config)] if sweep else []
    records = reading.in_order(fairness.read_folder(root), labels)
    return report.write(root, records, config.report.to_dict(), max(len(labels), 1))


def _resolved() -> tuple[ConfigDict, launch.Sweep | None, shards.Shard]:
    flag = FLAGS["config"]
    file = config_flags.get_config_filename(flag)
    # Parts of the user's own, my_parts:small_cnn, lie beside the config. Last, so that they hide no installed module.
    sys.path.append(str(Path(file.split(":")[0]).resolve().parent))
    module = command_line.load_module(file)
    config = command_line.resolved(FLAGS.config, module, config_flags.get_override_values(flag))
    report.check_sections(config.report.sections)
    return config, getattr(module, "sweep", None), shards.parse(FLAGS.sweep)


def _refuse_flags_without_effect() -> None:
    given = [name for name in MEETING if FLAGS[name].value is not None]
    if given and not FLAGS.distributed:
        raise ValueError(f"--{given[0]} says how processes meet, which they do with --distributed: add it")
    if FLAGS.report_only:
        _refuse_beside_report_only()
    if FLAGS.profile is not None and (FLAGS.launcher or FLAGS.sweep != "all"):
        other = f"--launcher={FLAGS.launcher}" if FLAGS.launcher else f"--sweep={FLAGS.sweep}"
        raise ValueError(
            f"--profile traces the sweep's first run here and goes without {other}: leave one out"
        )


def _refuse_beside_report_only() -> None:
    given = [name for name in STARTING if FLAGS[name].value != FLAGS[name].default]
    if given:
        raise ValueError(
            f"--report_only starts no run, so --{given[0]} has no effect beside it: leave one out"
        )
