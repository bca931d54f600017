"""Unfinished stages on disk: a training state, the position of its data and what is said of both, in one step.

Orbax's ``CheckpointManager`` fits them better than the bare checkpointer that finished stages go through: it
writes while training goes on, publishes state and JSON together by one rename, and keeps the last n.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from prune_jax.experiment.processes import collective
from prune_jax.experiment.storage.stages import (
    CheckpointError,
    Store,
    cant_be_read,
    cant_be_written,
    digest_of,
    refuse_full_disk,
    way_out,
)

Partial: TypeAlias = ocp.CheckpointManager


@contextlib.contextmanager
def open_partial(store: Store, cohort: str, keep: int) -> Iterator[Partial]:
    """The checkpoints of the unfinished stage ``cohort``. The newest ``keep`` of them stay.

    What is being written is there at the end, or CheckpointError is raised. A folder without any is removed.
    """
    folder = _folder(store, cohort)
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, save_root_metadata=False)
    partial = ocp.CheckpointManager(folder.absolute(), options=options)
    try:
        yield partial
        settle(partial)
    finally:
        with contextlib.suppress(Exception):  # told already, or less than what is on its way up
            partial.close()
        if collective.is_main():
            with contextlib.suppress(OSError):
                folder.rmdir()


def save(partial: Partial, step: int, state: Any, about: dict[str, Any]) -> None:
    """Begin to keep ``state`` after ``step`` training steps, with ``about`` as JSON. Returns before it is written.

    The state may be donated at once: what is written is a copy. Raises CheckpointError when this checkpoint
    or the one before can't be written.
    """
    path = Path(partial.directory) / str(step)
    refuse_full_disk(Path(partial.directory), path, state)
    held = jax.tree.map(jnp.copy, state)
    said = {**about, "digest": digest_of(held)}
    content = ocp.args.Composite(state=ocp.args.StandardSave(_plain(held)), about=ocp.args.JsonSave(said))
    with cant_be_written(path):
        partial.save(step, args=content, force=True)


def settle(partial: Partial) -> None:
    """Wait until the checkpoint that is being written is there. CheckpointError when it can't be."""
    with cant_be_written(Path(partial.directory)):
        partial.wait_until_finished()


def newest(partial: Partial) -> dict[str, Any] | None:
    """What the newest complete checkpoint says of itself, or None without one."""
    step = partial.latest_step()
    if step is None:
        return None
    with cant_be_read(_step(partial), remove=_step(partial)):
        content = ocp.args.Composite(about=ocp.args.JsonRestore())
        return dict(partial.restore(step, args=content)["about"])


def load(partial: Partial, like: Any) -> Any:
    """The newest state, laid out as the arrays of ``like``, on however many devices those are."""
    path = _step(partial)
    said = newest(partial)
    if said is None:
        raise CheckpointError(f"no unfinished stage under {partial.directory}")
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like
    )
    with cant_be_read(path, remove=path):
        content = ocp.args.Composite(state=ocp.args.StandardRestore(_plain(target)))
        state = _like(target, partial.restore(partial.latest_step(), args=content)["state"])
    if digest_of(state) != said["digest"]:
        raise CheckpointError(f"checkpoint {path} holds other numbers than were saved; {way_out(path)}")
    return state


def read_partial(store: Store, cohort: str) -> dict[str, Any] | None:
    """What the unfinished stage ``cohort`` says of itself, or None without one."""
    if not collective.from_main(lambda: _folder(store, cohort).is_dir()):
        return None
    options = ocp.CheckpointManagerOptions(read_only=True, create=False)  # another process may be writing it
    with ocp.CheckpointManager(_folder(store, cohort).absolute(), options=options) as partial:
        return newest(partial)


def drop_partial(store: Store, cohort: str) -> None:
    """Forget the unfinished stage ``cohort``. Nothing happens where there is none."""
    if collective.is_main():
        shutil.rmtree(_folder(store, cohort), ignore_errors=True)
    collective.barrier(f"drop {cohort}")


def _plain(state: Any) -> Any:
    """Named tuples as dicts without fields that are None: a field that is not in use leaves no trace on disk.

    So a state that was kept before its type had such a field can still be read.
    """
    if not hasattr(state, "_fields"):
        return state
    return {name: _plain(value) for name, value in state._asdict().items() if value is not None}


def _like(state: Any, plain: Any) -> Any:
    """``plain`` in the named tuples of ``state``, from which ``_plain`` made such a tree."""
    if not hasattr(state, "_fields"):
        return plain
    return type(state)(*(v if v is None else _like(v, plain[k]) for k, v in state._asdict().items()))


def _folder(store: Store, cohort: str) -> Path:
    return store.root / "partial" / cohort


def _step(partial: Partial) -> Path:
    return Path(partial.directory) / str(partial.latest_step())
