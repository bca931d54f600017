"""Stages on disk: finished ones under their id, unfinished ones beside them, both through Orbax."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from prune_jax import atomic
from prune_jax.experiment.processes import collective
from prune_jax.experiment.storage.leases import Locks
from prune_jax.pruning.jaxpr.reading import leaf_paths

MARGIN = 2**20  # bytes that a checkpoint's own files may take beside the arrays


class CheckpointError(RuntimeError):
    """A checkpoint can't be read back or written. The message names it and the way out."""


class Store(NamedTuple):
    """A workdir, the Orbax checkpointer that writes to it and the leases that say who computes what.

    ``stages/ID/`` holds ``checkpoint/`` and, written last, ``stage.json``. A stage is finished when that file is there.
    ``measured/`` may follow. ``partial/ID/`` holds the states of a stage in the middle (see partial.py),
    ``diverged/ID.json`` says of a stage that it has no end.
    """

    root: Path
    checkpointer: ocp.StandardCheckpointer
    locks: Locks


def read_stage(store: Store, stage_id: str) -> dict[str, Any] | None:
    """What a finished stage says of itself (``stage.json``), or None while it is not finished."""
    return _read_json(store.root / "stages" / stage_id / "stage.json")


def save_stage(store: Store, stage_id: str, variables: Any, about: dict[str, Any]) -> None:
    """Publish a finished stage: its variables, then ``about`` as ``stage.json``.

    A stage that is there already, as one that is measured further, never has a moment without weights: equal
    ones stay where they are, others go beside them.
    """
    folder = store.root / "stages" / stage_id
    variables = collective.fetch(variables)
    digest, before = digest_of(variables), read_stage(store, stage_id)
    name = "checkpoint" if before is None else _checkpoint_of(before)
    if before is None or before["digest"] != digest:
        name = "checkpoint" if before is None else f"checkpoint-{digest[:16]}"
        if collective.is_main():
            shutil.rmtree(folder / "measured", ignore_errors=True)  # of other weights under this id, if any
        _save(store, folder / name, variables)
    _write_json(folder / "stage.json", {**about, "digest": digest, "checkpoint": name})


def save_mask(store: Store, stage_id: str, mask: Any) -> dict[str, Any]:
    """Keep a stage's mask beside its checkpoint, before ``save_stage`` publishes the stage.

    Returns what the stage is to say of it: ``mask``, the shapes of its leaves, and ``masked``, how many are False.
    """
    _save(store, store.root / "stages" / stage_id / "mask", jax.tree.map(np.asarray, mask))
    leaves = leaf_paths(mask)
    masked = sum(int(np.size(leaf) - np.count_nonzero(leaf)) for _, leaf in leaves)
    return {"mask": {path: np.shape(leaf) for path, leaf in leaves}, "masked": masked}


def load_mask(store: Store, stage_id: str, like: Any) -> Any:
    """The mask of a finished stage, shaped ``like``. CheckpointError when it can't be read."""
    folder = store.root / "stages" / stage_id
    with cant_be_read(folder / "mask", remove=folder):
        return store.checkpointer.restore((folder / "mask").absolute(), like)


def save_cut(store: Store, stage_id: str, variables: Any) -> None:
    """Keep the variables before recovery, where they can't be cut again from the parent's: before ``save_stage``."""
    _save(store, store.root / "stages" / stage_id / "cut", collective.fetch(variables))


def load_cut(store: Store, stage_id: str, like: Any, digest: str) -> Any:
    """What ``save_cut`` kept, shaped ``like``. CheckpointError when it can't be read."""
    folder = store.root / "stages" / stage_id
    return _load(store, folder / "cut", like, digest, remove=folder)


def save_measured(store: Store, stage_id: str, name: str, values: dict[str, Any]) -> None:
    """Keep what was measured on a finished stage's checkpoint, beside it."""
    _write_json(store.root / "stages" / stage_id / "measured" / f"{name}.json", values)


def read_measured(store: Store, stage_id: str, name: str) -> dict[str, Any] | None:
    """What was measured under ``name`` on a finished stage's checkpoint, or None."""
    return _read_json(store.root / "stages" / stage_id / "measured" / f"{name}.json")


def save_diverged(store: Store, stage_id: str, message: str) -> None:
    """Keep that a stage's loss was no longer finite, so that nobody trains it again to see the same."""
    _write_json(_diverged(store, stage_id), {"message": message})


def read_diverged(store: Store, stage_id: str) -> tuple[str, Path] | None:
    """What was said of a stage that diverged, and the file to remove for another try. None for any other stage."""
    found = _read_json(_diverged(store, stage_id))
    return None if found is None else (found["message"], _diverged(store, stage_id))


def _diverged(store: Store, stage_id: str) -> Path:
    return store.root / "diverged" / f"{stage_id}.json"


def load_variables(store: Store, stage_id: str, like: Any) -> Any:
    """Variables of a finished stage, shaped ``like`` (abstract). CheckpointError when they can't be read."""
    about = read_stage(store, stage_id)
    folder = store.root / "stages" / stage_id
    if about is None:
        raise CheckpointError(f"stage {stage_id} is not finished under {store.root / 'stages'}")
    return _load(store, folder / _checkpoint_of(about), like, about["digest"], remove=folder)


def _checkpoint_of(about: dict[str, Any]) -> str:
    return about.get("checkpoint", "checkpoint")


def _save(store: Store, path: Path, tree: Any) -> None:
    if collective.is_main() and path.exists():
        shutil.rmtree(
            path
        )  # left by a run that was killed between a checkpoint and the file that publishes it
    collective.barrier(f"clear {path}")
    refuse_full_disk(store.root, path, tree)
    with cant_be_written(path):
        store.checkpointer.save(path.absolute(), tree)
        store.checkpointer.wait_until_finished()


def _load(store: Store, path: Path, like: Any, digest: str, remove: Path) -> Any:
    # On the host: the program that takes it decides on which devices it lies.
    target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
    with cant_be_read(path, remove):
        tree = store.checkpointer.restore(path.absolute(), target)
    if digest_of(tree) != digest:
        raise CheckpointError(f"checkpoint {path} holds other numbers than were saved; {way_out(remove)}")
    return tree


@contextlib.contextmanager
def cant_be_written(path: Path) -> Iterator[None]:
    """Whatever Orbax and TensorStore raise, in their many kinds, as a CheckpointError with the way out."""
    try:
        yield
    except Exception as error:
        raise CheckpointError(
            f"checkpoint {path} can't be written ({_first_line(error)}); free disk space or choose another "
            "--workdir and run again: what was finished is kept"
        ) from error


@contextlib.contextmanager
def cant_be_read(path: Path, remove: Path) -> Iterator[None]:
    """Turn what reading raises into a CheckpointError. ``remove`` is what has to go, so that it is made anew."""
    try:
        yield
    except Exception as error:
        raise CheckpointError(
            f"checkpoint {path} can't be read ({_first_line(error)}); {way_out(remove)}"
        ) from error


def refuse_full_disk(root: Path, path: Path, tree: Any) -> None:
    """Asked before Orbax starts, whose background threads would report a full disk in their own many words."""
    needed = MARGIN + sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    free = shutil.disk_usage(root).free
    if free < needed:
        raise CheckpointError(
            f"checkpoint {path} can't be written: {free / 2**20:.1f} MiB are free, {needed / 2**20:.1f} needed; "
            "free disk space or choose another --workdir and run again: what was finished is kept"
        )


def digest_of(tree: Any) -> str:
    """SHA-256 over every leaf's path, type, shape and bytes: equal weights, equal digest."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(collective.fetch(leaf))
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def way_out(remove: Path) -> str:
    """What to do about a checkpoint that can't be read."""
    return f"remove {remove} and run again: only this stage is computed anew"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__


def _read_json(path: Path) -> dict[str, Any] | None:
    return collective.from_main(lambda: _parsed(path))


def _parsed(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON ({error}); remove {path.parent} and run again") from error


def _write_json(path: Path, value: dict[str, Any]) -> None:
    if collective.is_main():
        atomic.write_text(path, json.dumps(value, indent=1))
    collective.barrier(f"wrote {path}")
