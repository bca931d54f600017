"""Processes meet over real sockets of this machine; threads stand for the processes."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from prune_jax.experiment.processes import collective
from prune_jax.experiment.processes.rendezvous import LostWorkerError, meet


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def test_all_are_let_go_once_the_last_has_come_and_the_port_is_free_again(address):
    came = []

    def process(number, after):
        time.sleep(after)
        came.append(number)
        meet(address, 4, number, 30)
        return len(came)

    with ThreadPoolExecutor(4) as pool:
        numbers, pauses = (1, 2, 0, 3), (0, 0, 0.4, 0.8)
        assert list(pool.map(process, numbers, pauses)) == [4] * 4
    socket.create_server(("", int(address.split(":")[1]))).close()


def test_a_run_of_one_process_waits_for_nobody(address):
    meet(address, 1, 0, 0.1)


def test_process_0_names_those_that_are_missing(address):
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(meet, address, 4, 2, 2)
        with pytest.raises(
            LostWorkerError, match=f"process 1, 3 of 4 did not come to {address} within 1 s: start"
        ):
            meet(address, 4, 0, 1)
        with pytest.raises(
            LostWorkerError, match=f"process 2 did not reach process 0 at {address} within 2 s"
        ):
            waiting.result()


def test_other_callers_are_not_counted(address):
    host, port = address.split(":")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(meet, address, 2, 0, 30)
        while True:
            try:
                stranger = socket.create_connection((host, int(port)))
                break
            except OSError:
                time.sleep(0.05)
        stranger.sendall(b"GET / HTTP/1.1")
        pool.submit(meet, address, 2, 1, 30).result()
        first.result()
        stranger.close()


def test_a_port_in_use_is_said(address):
    with (
        socket.create_server(("", int(address.split(":")[1]))),
        pytest.raises(LostWorkerError, match=f"process 0 can't listen at {address}"),
    ):
        meet(address, 2, 0, 1)


@pytest.mark.parametrize(
    ("coordinator", "process", "message"),
    [
        ("node1", 0, "--coordinator=node1 is no HOST:PORT"),
        ("node1:x", 0, "is no HOST:PORT"),
        ("node1:99999", 0, "is no HOST:PORT"),
        ("node1:1", 2, "--process_id=2 is not among the 2 of --num_processes: 0 to 1"),
    ],
)
def test_descriptions_that_can_not_be(coordinator, process, message):
    with pytest.raises(ValueError, match=message):
        meet(coordinator, 2, process, 1)


def test_a_launch_asks_before_jax_does(address):
    with pytest.raises(LostWorkerError, match="process 1 of 2 did not come"):
        collective.start(collective.Cluster(address, 2, 0, initialization_timeout=1))
