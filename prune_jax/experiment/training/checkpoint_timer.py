"""How long a cohort has trained, and when its state is to be kept again."""

import time
from collections.abc import Callable

from prune_jax.experiment.processes import collective


class Clock:
    """Runs from its creation. ``before`` seconds were spent by earlier starts of the same cohort."""

    def __init__(self, before: float, between: float, stopping: Callable[[], bool]) -> None:
        self._before, self._between, self._stopping = before, between, stopping
        self._started = self._kept = time.monotonic()

    def seconds(self) -> float:
        """Seconds of training, earlier starts included."""
        return self._before + time.monotonic() - self._started

    def due(self) -> bool:
        """Whether the state is to be kept now, as time is up or the run is to end.

        The answer is the same in all processes.
        """
        return collective.any_of(self._stopping() or time.monotonic() - self._kept >= self._between)

    def ending(self) -> bool:
        """Whether the run is to end. The answer is the same in all processes."""
        return collective.any_of(self._stopping())

    def kept(self) -> None:
        """The state has been kept."""
        self._kept = time.monotonic()
