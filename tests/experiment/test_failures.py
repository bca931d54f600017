"""What a launch that fails says: one line, and no threads' tracebacks around it."""

import sys
import types

import jax
import pytest

from prune_jax.experiment import failures
from prune_jax.experiment.processes.preemption import EXIT_CODE, PreemptedError
from prune_jax.experiment.storage.stages import CheckpointError


def unraisable(error):
    return types.SimpleNamespace(
        exc_type=type(error), exc_value=error, exc_traceback=None, err_msg=None, object=None
    )


def test_only_a_closed_event_loop_goes_unsaid(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    failures.hush_closed_loops()
    others = [unraisable(RuntimeError("out of threads")), unraisable(ValueError("Event loop is closed"))]
    for each in (unraisable(RuntimeError("Event loop is closed")), *others):
        sys.unraisablehook(each)
    assert said == others


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (ValueError("sparsify.ratio is 1.5"), "error: sparsify.ratio is 1.5", 1),
        (CheckpointError("checkpoint c can't be read"), "error: checkpoint c can't be read", 1),
        (OSError(28, "No space left on device", "w/stage.json"), "No space left on device (w/stage.json)", 1),
        (PreemptedError("stopped on SIGTERM"), "error: stopped on SIGTERM", EXIT_CODE),
        (KeyboardInterrupt(), "error: interrupted", 130),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore"),
            "error: the device's memory is full (RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.); a batch in",
            1,
        ),
    ],
)
def test_a_known_failure_is_one_line_and_an_exit_code(error, line, code, capsys):
    with pytest.raises(SystemExit) as left, failures.one_line():
        raise error
    assert left.value.code == code
    told = capsys.readouterr().err
    assert line in told
    assert len(told.splitlines()) == 1


def test_a_bug_keeps_its_traceback():
    for error in (ZeroDivisionError(), jax.errors.JaxRuntimeError("INTERNAL: a bug")):
        with pytest.raises(type(error)), failures.one_line():
            raise error
