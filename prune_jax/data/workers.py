"""Processes that read ahead for a stream: how many, what ends them, and the error when one is lost."""

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker

SIGNALS = {signal.SIGTERM, signal.SIGINT}  # a scheduler or a terminal sends them to a whole process group
LOST = "Worker process was terminated unexpectedly"  # Grain's words


class ReaderLostError(OSError):
    """A process that reads ahead ended by itself. What it had read is gone, the stream can go on at its step."""


def number_of_workers(asked: int | Sequence[int], cpus: int | None = None) -> int:
    """How many processes read: ``asked``, or of a pair (least, most) what ``cpus`` allow, one of them left over.

    Of one or two CPUs none is taken, for a thread reads as much there. None: those that this process may use.
    Raises ValueError naming the key for a negative number and whatever else is no number or pair.
    """
    numbers = [asked] if isinstance(asked, int) else list(asked) if isinstance(asked, list | tuple) else []
    right = all(type(number) is int and number >= 0 for number in numbers) and numbers == sorted(numbers)
    if not right or len(numbers) not in (1, 2) or (len(numbers) == 1 and not isinstance(asked, int)):
        raise ValueError(
            f"dataset.workers is {asked!r}; allowed: a number of processes, 0 for a thread of this one, or the "
            "least and the most of a number that is chosen from the CPUs, such as (0, 16)"
        )
    if len(numbers) == 1:
        return numbers[0]
    cpus = available_cpus() if cpus is None else cpus
    return max(numbers[0], min(cpus - 1 if cpus > 2 else 0, numbers[1]))


def available_cpus() -> int:
    """The CPUs that this process may use: of a Slurm job its own, not the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Where processes are started, by this thread or by threads that it starts: they are born deaf to ``SIGNALS``.

    ``live_with_parent`` comes only after seconds of imports, and a signal to the whole group would end them before.
    """
    resource_tracker.ensure_running()  # else it starts within, and takes the block off
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def live_with_parent(worker: int, workers: int) -> None:
    """Called by Grain in each process at its start: end with the trainer, and at its word alone.

    The trainer keeps its state when a signal comes, for which it still needs what they read. And Grain's processes
    would outlive one that was killed.
    """
    del worker, workers
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for wait in (parent.join, functools.partial(_told_by, parent.pid)):
        threading.Thread(target=_end_after, args=(wait,), daemon=True).start()


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Raise ReaderLostError where a process is gone that was to hand over a batch."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith(LOST):
            raise
        how = str(error).removeprefix(LOST).split(". ")[0].strip()
        raise ReaderLostError(
            f"a process that reads images ahead ended {how} (-9: killed, maybe for want of memory, which fewer "
            "dataset.workers need less of)"
        ) from error


def _end_after(wait: Callable[[], object]) -> None:
    wait()
    os._exit(1)


def _told_by(parent: int) -> None:
    """Return when ``parent`` sends SIGTERM, as multiprocessing does at its end. Another's is nothing to us."""
    if not hasattr(signal, "sigwaitinfo"):  # macOS doesn't say who sends it
        signal.sigwait({signal.SIGTERM})
        return
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
