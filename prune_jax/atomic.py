"""Files that are written whole or not at all: a reader, a kill or a full disk never meets a part of one."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write bytes to, which takes the place of ``path`` when the block ends without an exception.

    Until then it lies beside ``path`` under a name of its own, so several processes may write one path at once:
    the last one wins. The folder is made. Raises OSError where nothing can be written. An exception in the block
    leaves ``path`` as it was.

    Example: ``with atomic.writing(folder / "a.npy") as file: np.save(file, array)``.
    """
    path = Path(path)
    with _beside(path) as (temporary, file):
        yield file
        _keep(file)
        os.replace(temporary, path)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 in the place of ``path``, as ``writing`` does."""
    with writing(path) as file:
        file.write(text.encode())


def write_once(path: str | Path, text: str) -> None:
    """The same unless ``path`` is there: of several processes the first one wins, and the others' text is dropped."""
    path = Path(path)
    with _beside(path) as (temporary, file):
        file.write(text.encode())
        _keep(file)
        if not path.exists():
            _publish(temporary, path)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file in the folder of ``path``, gone at the end unless it was renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as file:  # not tempfile's: that one only its owner could read
            yield temporary, file
    finally:
        temporary.unlink(missing_ok=True)


def _keep(file: BinaryIO) -> None:
    """Onto the disk: a file that is renamed before may be empty after a power cut."""
    file.flush()
    os.fsync(file.fileno())


def _publish(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        temporary.replace(path)
