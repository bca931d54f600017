"""How many processes read ahead, and what signals and deaths do to them."""

import dataclasses
import itertools
import multiprocessing
import os
import signal
import subprocess
import threading
import time

import numpy as np
import pytest

from prune_jax import data
from prune_jax.data import workers

RECIPE = dataclasses.replace(data.IMAGENET_RECIPE, size=16, resize=20)


@pytest.mark.parametrize(
    ("asked", "cpus", "number"),
    [
        (0, 64, 0),
        (4, 1, 4),
        ((0, 16), 1, 0),
        ((0, 16), 2, 0),
        ((0, 16), 3, 2),
        ((0, 16), 17, 16),
        ((0, 16), 64, 16),
        ([2, 3], 1, 2),
        ((5, 5), 64, 5),
    ],
)
def test_a_number_stands_and_a_pair_is_chosen_within(asked, cpus, number):
    assert data.number_of_workers(asked, cpus) == number


def test_the_cpus_are_those_of_this_process(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 8, 9}, raising=False)
    assert data.number_of_workers((0, 16)) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert data.number_of_workers((0, 16)) == 5


@pytest.mark.parametrize(
    "asked", [-1, (-1, 4), (5, 2), (), (1,), (0, 1, 2), "auto", 2.5, (0, 2.5), True, None]
)
def test_what_is_no_number_of_processes_is_refused_by_its_key(asked):
    with pytest.raises(
        ValueError, match=r"dataset.workers is .*; allowed: a number of processes, 0 for a thread"
    ):
        data.number_of_workers(asked)


def test_another_error_of_grain_is_left_as_it_is():
    with pytest.raises(RuntimeError, match="something else"), workers.watched():
        raise RuntimeError("something else")


def test_signals_are_blocked_only_while_processes_start():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with workers.starting():
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before | {signal.SIGTERM, signal.SIGINT}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@pytest.mark.slow
def test_signals_from_birth_on_change_nothing_and_a_death_is_told(imagenet_dir):
    dataset = data.open_dataset("imagenet2012", data_dir=imagenet_dir, recipe=RECIPE)
    settings = {"batch_size": 40, "seed": 3, "train": True, "recipe": RECIPE}
    thread = data.open_stream(dataset, **settings)
    stream = data.open_stream(dataset, **settings, workers=2)
    born: list = []

    def send_at_birth():
        deadline = time.monotonic() + 60
        while len(born) < 2 and time.monotonic() < deadline:
            for child in multiprocessing.active_children():
                if child not in born:
                    born.append(child)
                    send("TERM", child)

    sender = threading.Thread(target=send_at_birth)
    sender.start()
    try:
        for number in range(12):
            for array, wanted in zip(next(stream), next(thread), strict=True):
                np.testing.assert_array_equal(array, wanted)
            if number == 3:
                sender.join()
                for child in born:
                    send("TERM", child)
                    send("INT", child)
        assert len(born) == 2
        os.kill(born[0].pid, signal.SIGTERM)  # by its parent, as multiprocessing does at the end
        born[0].join(60)
        assert born[0].exitcode == 1
        born[1].kill()
        with pytest.raises(data.ReaderLostError, match=r"ahead ended with exit code (1|-9) \(-9: killed"):
            list(itertools.islice(stream, 20))
    finally:
        thread.close()
        stream.close()


def send(name, child):
    """A signal as it comes from another process than the parent."""
    subprocess.run(["kill", f"-{name}", str(child.pid)], check=True)
