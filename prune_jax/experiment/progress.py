"""Progress on the terminal: a live line where there is one, plain lines where there is not."""

import time
from types import TracebackType

import rich.console
import rich.progress

from prune_jax import fairness

ACCURACY = fairness.METRICS["top-1 accuracy"]


class Progress:
    """Where a launch stands: stage, run i of n, epoch, accuracy, time left. Used as a context manager.

    ``mine`` is how many of a sweep's ``runs`` this launch is about. By default all.
    """

    def __init__(
        self,
        runs: int,
        mine: int | None = None,
        console: rich.console.Console | None = None,
        plain_seconds: float = 10.0,
    ):
        self._console = console or rich.console.Console()
        self._runs, self._run, self._name = runs, 0, ""
        self._mine, self._over = runs if mine is None else mine, 0
        self._started = time.monotonic()
        self._plain_seconds, self._printed = plain_seconds, self._started
        self._stage, self._epochs, self._reason = "", 0, ""
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=8),
            rich.progress.TextColumn("epoch {task.completed}/{task.total} {task.fields[accuracy]}"),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("left"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=1, accuracy="")

    def __enter__(self) -> "Progress":
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def run(self, number: int, name: str) -> None:
        """Run ``number`` (from 1) of the launch begins."""
        self._run, self._name = number, name

    def over(self) -> None:
        """One run of this launch is over."""
        self._over += 1

    def waiting(self, runs: int, reason: str) -> None:
        """Nothing can be done but to wait for another process."""
        text = f"waiting with {runs} runs: {reason}"
        if text != self._reason:  # said once, however often it is looked at
            self.line(text)
        self._reason = text

    def begin(self, stage: str, epochs: int, done: int) -> None:
        """A stage begins, or goes on after ``done`` of its ``epochs``."""
        self._stage, self._epochs = stage, epochs
        self._bar.reset(self._task, total=epochs, completed=done, description=self._title(), accuracy="")

    def epoch(self, number: int, value: float, metric: fairness.Metric = ACCURACY) -> None:
        """Epoch ``number`` is over with this mean test accuracy in percent, or this value of another metric."""
        said = fairness.value_text(value, metric)
        self._bar.update(self._task, completed=number, accuracy=said)
        now = time.monotonic()
        quiet = now - self._printed < self._plain_seconds
        if self._console.is_terminal or (quiet and number != self._epochs):
            return
        self._printed = now
        said = f"accuracy {said}" if metric == ACCURACY else said
        self.line(f"{self._title()} epoch {number}/{self._epochs} {said}{self._left()}")

    def line(self, text: str) -> None:
        """One line that stays, above the live one."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def _title(self) -> str:
        return f"run {self._run}/{self._runs} {self._name} | {self._stage}"

    def _left(self) -> str:
        """Time left of the launch, estimated from its runs that are over."""
        if not self._over:
            return ""
        spent = time.monotonic() - self._started
        left = spent / self._over * (self._mine - self._over)
        return f", about {left:.0f} s left"
