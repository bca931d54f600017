"""SIGTERM, as a scheduler sends it before it takes a machine back: noticed, and obeyed between two steps."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

EARLY = "asked to end; what was finished is kept, run the same command again"
EXIT_CODE = 75  # sysexits.h's EX_TEMPFAIL: the same command goes on from here


class PreemptedError(RuntimeError):
    """The run was asked to end and has kept its state. The message says how to go on."""


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """SIGTERM as PreemptedError at once: for what goes before ``noticed``, when there is nothing to keep yet.

    A second SIGTERM ends the process at once. Outside the main thread nothing changes.
    """

    def end(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise PreemptedError(EARLY)

    with _handled_by(end):
        yield


@contextlib.contextmanager
def noticed() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGTERM has come. Meanwhile it ends nothing by itself.

    A second SIGTERM ends the process at once, as without this. Outside the main thread, where Python takes no
    signals, nothing is noticed.
    """
    came = threading.Event()

    def note(number: int, frame: object) -> None:
        came.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    with _handled_by(note):
        yield came.is_set


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, object], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
