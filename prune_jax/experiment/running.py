"""A whole experiment from Python, as in a notebook: a config in, the records of its runs out."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from prune_jax import fairness
from prune_jax.experiment.config import flags
from prune_jax.experiment.launch import Sweep, launch
from prune_jax.experiment.storage import folder as folders
from prune_jax.experiment.storage.reports import WriteReport


def run(
    config: ConfigDict | str | Path,
    sweep: Sweep | None = None,
    workdir: str | Path | None = None,
    write_report: WriteReport | None = None,
) -> tuple[fairness.RunRecord, ...]:
    """Run an experiment: every run of ``config`` that is not finished in its workdir.

    Called again, it finds all finished and returns the same records. It changes nothing of the process for good.
    ``run.py`` does two things more. It lets JAX see every CPU core as a device (``replicas.one_device_per_core``), and
    it keeps compiled programs (``folder.use_compilation_cache``). Call these first to have the same.

    Args:
        config: a config, as a file's ``get_config()`` makes it. A path is read: ``configs/NAME.py``, or its small form,
            ``configs/NAME.py:quick``.
        sweep: a function of the config that lists overrides, one entry a run. None: the file's own sweep, or one run.
        workdir: folder of stages and records. By default ``runs/EXPERIMENT``.
        write_report: what writes the report, such as ``prune_jax.report.write``. None: there is no report.

    Returns:
        The runs' records in the sweep's order.

    Raises:
        ValueError: before any work, for a config that can't be run or a workdir that can't be written.
        TrainingDivergedError: when all runs that don't diverge are done.
        CheckpointError, OSError, PreemptedError: later. What was finished is kept.

    Example:
        >>> from prune_jax import experiment
        >>> records = experiment.run("configs/mystery1_mlp7.py:quick")  # doctest: +SKIP
    """
    command = "prune_jax.experiment.run"
    with contextlib.ExitStack() as while_it_runs:
        if not isinstance(config, ConfigDict):
            command = f"{command}({str(config)!r})"
            while_it_runs.enter_context(_importable(Path(str(config).split(":")[0]).resolve().parent))
            config, of_file = flags.load(str(config))
            sweep = sweep or of_file
        folder = Path(workdir or folders.default(config))
        return launch(config, sweep, folder, command, write_report or _no_report).records


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Parts of the user's own lie beside the config file."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _no_report(folder: Path, *about: object) -> Path:
    return folder
