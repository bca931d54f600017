"""The folder of an experiment: claimed once by one experiment, with its compilation cache."""

import contextlib
import fnmatch
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from prune_jax import atomic
from prune_jax.experiment.processes import collective
from prune_jax.experiment.storage.leases import open_locks
from prune_jax.experiment.storage.stages import Store

FORMAT = 1
# What launches and the tools around them leave in a workdir. One that holds nothing else has lost its
# experiment.json, as to a purge of old files, and is claimed anew.
OURS = (
    *(
        "stages",
        "partial",
        "diverged",
        "locks",
        "records",
        "metrics",
        "tensorboard",
        "figures",
        "jobs",
        "profile",
    ),
    *("compilation_cache", "report.md", "report.html", ".*", "slurm-*", "*.log"),
)


def open_workdir(root: Path, experiment: str) -> Store:
    """Claim ``root`` for ``experiment``, or reopen it, however many processes do so at once.

    Raises ValueError when another experiment holds it or when nothing can be written there.
    """
    collective.from_main(lambda: claim(root, experiment))
    return Store(root, ocp.StandardCheckpointer(), open_locks(root))


def default(config: ConfigDict) -> Path:
    """``runs/EXPERIMENT``, where nobody names another folder. The small form has one of its own."""
    return Path("runs") / (config.experiment + "_quick" * config.quick)


def claim(root: Path, experiment: str) -> None:
    """Make ``root`` the folder of ``experiment``. Raises ValueError as ``open_workdir``."""
    file = root / "experiment.json"
    if _is_foreign(root) and not file.exists():  # asked last: another process may have claimed it just now
        raise ValueError(
            f"--workdir={root} is not empty and holds no experiment: choose a new or empty folder"
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Written even when the folder is claimed already: what can't be written is told before any work.
        atomic.write_once(file, json.dumps({"experiment": experiment, "format": FORMAT}))
        file.touch()  # a purge goes by age
    except OSError as error:
        raise ValueError(
            f"--workdir={root} can't be written ({error.strerror or error}): choose another folder"
        ) from error
    _refuse_other(root, file, experiment)


def _is_foreign(root: Path) -> bool:
    if not root.is_dir():
        return False
    return any(not any(fnmatch.fnmatch(path.name, name) for name in OURS) for path in root.iterdir())


def _refuse_other(root: Path, file: Path, experiment: str) -> None:
    try:
        held = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"--workdir={root}: {file} is no JSON ({error}); choose another folder") from error
    if not isinstance(held, dict):
        raise ValueError(f"--workdir={root}: {file} says nothing of an experiment; choose another folder")
    if held.get("experiment") != experiment:
        raise ValueError(
            f"--workdir={root} holds experiment {held.get('experiment')!r}, not {experiment!r}: "
            "choose another folder, or leave --workdir out"
        )
    if held.get("format") != FORMAT:
        raise ValueError(f"--workdir={root} has format {held.get('format')}; this release reads {FORMAT}")


@contextlib.contextmanager
def closing(store: Store) -> Iterator[None]:
    """Close the store's checkpointer at the end. What it could not write has been raised before."""
    try:
        yield
    finally:
        with contextlib.suppress(Exception):
            store.checkpointer.close()


def use_compilation_cache(root: Path) -> None:
    """For the whole process: keep compiled programs in the workdir, unless JAX's cache is set already."""
    if not jax.config.values.get("jax_compilation_cache_dir"):
        jax.config.update("jax_compilation_cache_dir", str((root / "compilation_cache").absolute()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        # A full disk, or an entry that another process is writing or was killed at, costs time only.
        warnings.filterwarnings("ignore", message="Error (writing|reading) persistent compilation cache")
