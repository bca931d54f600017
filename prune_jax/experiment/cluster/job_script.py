"""What one job of a sweep does, wherever submitit starts it."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from prune_jax.experiment.processes.preemption import EXIT_CODE

GRACE = 60.0  # seconds that a run has to save its state when its job is about to be stopped
BRIEFLY = 0.5  # the same when the user interrupts a local job, which submitit kills a second later


class ShardJob:
    """Run a command. Preempted or out of time, it ends the command and asks to be queued again."""

    def __init__(
        self, command: Sequence[str], folder: str, environment: Mapping[str, str | None] | None = None
    ) -> None:
        """``environment``: variables in which the command's environment differs from the job's own.

        None takes one away.
        """
        self.command, self.folder = tuple(command), folder
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run the command to its end. CalledProcessError where it fails."""
        merged = {**os.environ, **self.environment}
        there = {name: value for name, value in merged.items() if value is not None}
        # Slurm sends submitit's signal to every process of a job. The command shall hear of it from here alone.
        self._process = subprocess.Popen(
            self.command, cwd=self.folder, env=there, preexec_fn=_ignore_preemption
        )
        try:
            while (
                code := self._process.poll()
            ) is None:  # no wait(): a signal's handler could not wait inside it
                time.sleep(0.1)
        except KeyboardInterrupt:  # at a terminal the command hears of it itself
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(BRIEFLY)
            finally:  # submitit interrupts twice
                self._process.terminate()
            raise
        # Slurm told the run itself that its time is up, maybe before it could notice: to submitit, a preemption.
        if code in (EXIT_CODE, -signal.SIGTERM):
            signal.raise_signal(signal.SIGUSR2)
        if code:
            raise subprocess.CalledProcessError(code, self.command)

    def checkpoint(self) -> Any:
        """What submitit queues again, once the command has saved its state."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
        return DelayedSubmission(ShardJob(self.command, self.folder, self.environment))


def _ignore_preemption() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
