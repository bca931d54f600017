"""One process at a time: a lease beside what is made, on whatever file system the others see it too."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from prune_jax import leases

# A process that died loses its lease after so long. A living one renews it three times in that time.
LEASE_SECONDS = 60.0


@contextlib.contextmanager
def turn(path: Path) -> Iterator[None]:
    """Hold the lease file ``path``, after whoever holds it now. Raises OSError where it can't be written."""
    lease, sight = filelock.SoftFileLease(path, lease_duration=LEASE_SECONDS), None
    while True:
        try:
            lease.acquire(timeout=1.0)
            break
        except filelock.Timeout:
            sight = leases.watch_empty(path, sight, LEASE_SECONDS)
    try:
        yield
    finally:
        lease.release()
