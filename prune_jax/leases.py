"""Lease files of holders that died between creating the file and writing their name into it.

filelock (seen with 4.3.1) never takes over an empty file: its older versions left them empty while they held. A
process killed in that moment, though, would hold up everybody for ever.
"""

import os
import time
from pathlib import Path
from typing import NamedTuple


class Sight(NamedTuple):
    """An empty lease file as it was first seen, and when, by this process's own clock."""

    inode: int
    changed: int
    since: float


def watch_empty(path: Path, sight: Sight | None, seconds: float) -> Sight | None:
    """What is seen of an empty lease file after ``sight``. None where it isn't empty, or can't be opened.

    One that has been seen unchanged for ``seconds`` gets a word written into it. Then it is malformed, and who
    tries to acquire it takes it over by filelock's own rules, two seconds later. A holder that lives writes its
    name at once, so ``seconds`` need only be more than a network file system's clients keep a file's size.
    """
    try:
        with open(os.open(path, os.O_WRONLY), "w") as file:
            status = os.fstat(file.fileno())
            if status.st_size:
                return None
            now = time.monotonic()
            if sight is None or (status.st_ino, status.st_mtime_ns) != sight[:2]:
                return Sight(status.st_ino, status.st_mtime_ns, now)
            if now - sight.since >= seconds:
                file.write("abandoned\n")
                return None
            return sight
    except OSError:  # let go meanwhile, or another user's
        return None
