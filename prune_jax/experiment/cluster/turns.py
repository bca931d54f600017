"""A sweep's runs in turn, those first that no other process holds up."""

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from prune_jax.experiment.progress import Progress
from prune_jax.experiment.storage.leases import BusyError

T = TypeVar("T")
PATIENCE = (0.5, 10.0)  # seconds between two looks at what other processes are at: at first, and at most


def take_turns(todo: Iterable[T], attempt: Callable[[T], None], progress: Progress) -> None:
    """``attempt`` every run. One that raises BusyError is attempted again, after the others and a pause.

    Where nothing else is left to do the pauses grow, and ``progress`` says once what they wait for.
    """
    left = list(todo)
    wait, most = PATIENCE
    while left:
        busy = []
        for run in left:
            try:
                attempt(run)
            except BusyError as error:
                busy.append(run)
                reason = error
        if len(busy) < len(left):
            wait = PATIENCE[0]
        elif busy:
            progress.waiting(len(busy), str(reason))
            time.sleep(wait)
            wait = min(1.5 * wait, most)
        left = busy
