"""A command's known errors, each shown as one line."""

import sys
from collections.abc import Callable


def exit_code(command: str, work: Callable[[], None]) -> int:
    """Do the work of ``command``. Returns 0, or 2 with one line on an error that its user can mend."""
    from prune_jax.data import NotPreparedError
    from prune_jax.experiment.storage.stages import CheckpointError

    try:
        work()
    except (ValueError, OSError, CheckpointError, NotPreparedError) as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 2
    return 0
