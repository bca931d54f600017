"""SIGTERM, as a scheduler sends it before it takes a machine back: noticed, and obeyed between two steps."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

EXIT_CODE = 75  # sysexits.h's EX_TEMPFAIL: the same command goes on from here


class PreemptedError(RuntimeError):
    """The run was asked to end and has kept its state; the message says how to go on."""


@contextlib.contextmanager
def noticed() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGTERM has come; meanwhile it ends nothing by itself.

    A second SIGTERM ends the process at once, as without this. Outside the main thread, where Python takes no
    signals, nothing is noticed.
    """
    came = threading.Event()

    def note(number: int, frame: object) -> None:
        came.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before = signal.signal(signal.SIGTERM, note)
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
