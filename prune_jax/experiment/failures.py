"""Known failures of a launch as one line on stderr and exit code 1. Bugs keep their traceback."""

import contextlib
import sys
from collections.abc import Iterator

import jax

from prune_jax.data import NotPreparedError
from prune_jax.experiment.cluster.submit import JobFailedError
from prune_jax.experiment.processes.preemption import EXIT_CODE, PreemptedError
from prune_jax.experiment.processes.rendezvous import LostWorkerError
from prune_jax.experiment.storage.stages import CheckpointError
from prune_jax.experiment.training.divergence import TrainingDivergedError

LESS_MEMORY = (
    "a batch in parts takes less (--config.optimizer.accumulate=2), and so do --config.remat=elementwise, parameters "
    "spread over devices (--config.mesh.fsdp), or fewer seeds at once (--config.execution.replicas=loop); what was "
    "finished is kept"
)


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Exit with ``error: MESSAGE`` when a launch fails in a way that its user can mend."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _leave(f"{error.strerror or error}{where}; what was finished is kept, run the same command again")
    except (
        ValueError,
        NotPreparedError,
        TrainingDivergedError,
        CheckpointError,
        JobFailedError,
        LostWorkerError,
    ) as error:
        _leave(str(error))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        _leave(f"the device's memory is full ({str(error).splitlines()[0][:160]}); {LESS_MEMORY}")
    except PreemptedError as error:
        _leave(str(error), code=EXIT_CODE)
    except KeyboardInterrupt:
        _leave("interrupted; what was finished is kept, run the same command again", code=130)


def hush_closed_loops() -> None:
    """For a whole process: no traceback from a thread that reports to an event loop that is closed.

    Orbax closes its loop at the first write that fails, and raises it. TensorStore's other writes, hundreds of them
    on a full disk, still report to that loop, and their tracebacks would run into the one line that matters.
    """
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        closed = isinstance(unraisable.exc_value, RuntimeError) and "Event loop is closed" in str(
            unraisable.exc_value
        )
        if not closed:
            before(unraisable)

    sys.unraisablehook = hook


def _leave(message: str, code: int = 1) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
