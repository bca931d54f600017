import os
import signal
import threading

import pytest

from prune_jax.experiment import failures
from prune_jax.experiment.processes import preemption


def test_a_first_sigterm_is_noticed_and_a_second_one_ends():
    before = signal.getsignal(signal.SIGTERM)
    with preemption.noticed() as came:
        assert not came()
        os.kill(os.getpid(), signal.SIGTERM)
        assert came()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is before


def test_before_there_is_anything_to_keep_a_sigterm_ends_with_the_code_that_is_queued_again():
    before = signal.getsignal(signal.SIGTERM)

    def launch():
        with failures.one_line(), preemption.raised():
            with preemption.noticed() as came:  # a launch's own notice has precedence
                os.kill(os.getpid(), signal.SIGTERM)
                assert came()
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("it was to end")

    with pytest.raises(SystemExit) as left:
        launch()
    assert left.value.code == preemption.EXIT_CODE
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_signals_are_left_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def run():
        with preemption.noticed() as came:
            seen.append((came(), signal.getsignal(signal.SIGTERM) is before))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(False, True)]
