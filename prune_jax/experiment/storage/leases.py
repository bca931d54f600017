"""Who computes what: a lease on the shared file system for every stage, so that no two processes do it at once.

A lease is a file under ``locks/`` whose time its holder renews from a background thread. Nothing else is needed
between hosts: no server, no ``flock`` (which not every network file system carries from one host to another).
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import filelock

from prune_jax import leases
from prune_jax.experiment.processes import collective

# A lease that nobody renews for so long is taken over. It is renewed three times in it. Well above the minute for
# which NFS clients may keep a file's times in their cache. A process known to be dead on this host loses it at once.
LEASE_SECONDS = 120.0


class BusyError(RuntimeError):
    """Another process computes what is needed next. The message names the stage and the process."""


class Locks(NamedTuple):
    """The leases of a workdir, as this process sees them.

    ``seen`` keeps one lease object per name: each remembers since when it has watched another's lease unrenewed,
    on this process's own clock, so clocks that differ between hosts do no harm. ``empty``: since when files without
    a holder's name have been watched.
    """

    folder: Path
    seconds: float
    seen: dict[str, filelock.SoftFileLease]
    empty: dict[str, leases.Sight | None]


def open_locks(root: Path, seconds: float = LEASE_SECONDS) -> Locks:
    """The leases of the workdir ``root``, lost when not renewed for ``seconds``. All its processes must agree on it."""
    return Locks(root / "locks", seconds, {}, {})


@contextlib.contextmanager
def held(locks: Locks, names: Sequence[str], *, together: bool = True) -> Iterator[None]:
    """Hold the leases of all ``names`` (such as stage ids), or none: BusyError at once when one is held elsewhere.

    They are tried in one order everywhere and let go together, so processes never wait for one another in a circle. Of
    a run's several processes the first one holds them for all, ``together``. Or one asks for itself.
    """
    with contextlib.ExitStack() as stack:
        acquire = functools.partial(_acquire, locks, names, stack)
        reason = collective.from_main(acquire) if together else acquire()
        if reason:
            raise BusyError(reason)
        yield


def check(locks: Locks, names: Sequence[str]) -> None:
    """Raise BusyError when a lease that this process holds was taken over, as after a long suspension."""
    reason = collective.from_main(lambda: _lost(locks, names))
    if reason:
        raise BusyError(reason)


def _acquire(locks: Locks, names: Sequence[str], stack: contextlib.ExitStack) -> str | None:
    """Take all leases, let go as ``stack`` ends. Why that can't be, or None."""
    locks.folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(set(names)):
        lease = _lease(locks, name)
        try:
            lease.acquire(timeout=0)
        except filelock.Timeout:
            path = Path(lease.lock_file)
            locks.empty[name] = leases.watch_empty(path, locks.empty.get(name), locks.seconds)
            return f"{name} is held by {_holder(lease)}"
        stack.callback(lease.release)
    return None


def _lost(locks: Locks, names: Sequence[str]) -> str | None:
    for name in names:
        lease = _lease(locks, name)
        if not lease.is_locked or not lease.is_lock_held_by_us:
            return f"{name} was not renewed for {locks.seconds:g} s and is now held by {_holder(lease)}"
    return None


def _lease(locks: Locks, name: str) -> filelock.SoftFileLease:
    if name not in locks.seen:
        path = locks.folder / f"{name}.lock"
        # Not per thread: the check may run on another one than the acquisition.
        lease = filelock.SoftFileLease(path, lease_duration=locks.seconds, thread_local=False)
        locks.seen[name] = lease
    return locks.seen[name]


def _holder(lease: filelock.SoftFileLease) -> str:
    owner = lease.owner
    return "another process" if owner is None else f"process {owner.pid} on {owner.hostname}"
