"""The folder of an experiment: claimed once by one experiment, with its compilation cache."""

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from prune_jax.experiment.store import Store

FORMAT = 1


def open_workdir(root: Path, experiment: str) -> Store:
    """Claim ``root`` for ``experiment``, or reopen it. Raises ValueError when another experiment holds it."""
    claim = root / "experiment.json"
    if claim.exists():
        try:
            held = json.loads(claim.read_text())
        except ValueError as error:
            raise ValueError(
                f"--workdir={root}: {claim} is no JSON ({error}); choose another folder"
            ) from error
        if held.get("experiment") != experiment:
            raise ValueError(
                f"--workdir={root} holds experiment {held.get('experiment')!r}, not {experiment!r}: "
                "choose another folder, or leave --workdir out"
            )
        if held.get("format") != FORMAT:
            raise ValueError(f"--workdir={root} has format {held.get('format')}; this release reads {FORMAT}")
    elif root.exists() and any(root.iterdir()):
        raise ValueError(
            f"--workdir={root} is not empty and holds no experiment: choose a new or empty folder"
        )
    else:
        root.mkdir(parents=True, exist_ok=True)
        temporary = claim.with_suffix(".tmp")
        temporary.write_text(json.dumps({"experiment": experiment, "format": FORMAT}))
        temporary.replace(claim)
    return Store(root, ocp.StandardCheckpointer())


@contextlib.contextmanager
def closing(store: Store) -> Iterator[None]:
    """Close the store's checkpointer at the end; what it could not write has been raised before."""
    try:
        yield
    finally:
        with contextlib.suppress(Exception):
            store.checkpointer.close()


def use_compilation_cache(root: Path) -> None:
    """Keep compiled programs in the workdir, unless the caller has set JAX's cache already."""
    if not jax.config.values.get("jax_compilation_cache_dir"):
        jax.config.update("jax_compilation_cache_dir", str((root / "compilation_cache").absolute()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        # On a full disk the cache is what fails first, and it costs time only.
        warnings.filterwarnings("ignore", message="Error writing persistent compilation cache")
