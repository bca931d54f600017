"""Whether all processes of a run are there, asked before JAX's runtime starts.

Where one doesn't come, JAX ends the others with an abort that nobody can catch. So they meet here first, on the
coordinator's port, which is free again when JAX takes it. What is missing is then an error that can be told.
"""

import contextlib
import socket
import time

_HELLO, _GO = b"prune_jax process ", b"go"
_PAUSE = 0.2  # seconds between two attempts to reach process 0
_SLOW = 5.0  # seconds until a caller that says nothing is some other program's


class LostWorkerError(RuntimeError):
    """The processes of a run did not find one another, or one of them failed."""


def meet(coordinator: str, processes: int, process: int, timeout: float) -> None:
    """Return once all ``processes`` have called this, process 0 listening at ``coordinator``, HOST:PORT.

    Raises LostWorkerError after ``timeout`` seconds, and ValueError for an address or numbers that can't be.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise ValueError(f"--coordinator={coordinator} is no HOST:PORT, such as node1:1234")
    if not 0 <= process < processes:
        raise ValueError(
            f"--process_id={process} is not among the {processes} of --num_processes: 0 to {processes - 1}"
        )
    deadline = time.monotonic() + timeout
    if process == 0:
        _call(coordinator, int(port), processes, deadline, timeout)
        return
    while not _answer(host, int(port), process, deadline):
        if not _left(deadline):
            raise LostWorkerError(
                f"process {process} did not reach process 0 at {coordinator} within {timeout:g} s: start it there "
                f"with --process_id=0, or give --config.distributed.initialization_timeout more than {timeout:g}"
            )


def _call(coordinator: str, port: int, processes: int, deadline: float, timeout: float) -> None:
    """Process 0: wait for all others, then let them go."""
    try:
        server = socket.create_server(("", port), backlog=processes)
    except OSError as error:
        raise LostWorkerError(
            f"process 0 can't listen at {coordinator} ({error}): another port may be free"
        ) from error
    with contextlib.ExitStack() as opened:
        opened.enter_context(server)
        here: dict[int, socket.socket] = {}
        while missing := [i for i in range(1, processes) if i not in here]:
            try:
                server.settimeout(max(_left(deadline), 1e-3))
                connection = opened.enter_context(server.accept()[0])
            except TimeoutError:
                raise LostWorkerError(
                    f"process {', '.join(map(str, missing))} of {processes} did not come to {coordinator} within "
                    f"{timeout:g} s: start each with the same --coordinator and --num_processes, or give "
                    f"--config.distributed.initialization_timeout more than {timeout:g}"
                ) from None
            said = _heard(connection, min(deadline, time.monotonic() + _SLOW))
            if said.startswith(_HELLO) and said[len(_HELLO) :].isdigit():
                here[int(said[len(_HELLO) :])] = connection  # one that came back replaces its former call
        for connection in here.values():
            with contextlib.suppress(OSError):  # whoever left meanwhile is missed by JAX
                connection.sendall(_GO)


def _answer(host: str, port: int, process: int, deadline: float) -> bool:
    """Whether process 0 was reached and let this one go. Where it wasn't, this is said after a pause."""
    try:
        with socket.create_connection((host, port), timeout=max(_left(deadline), 1e-3)) as connection:
            connection.sendall(_HELLO + str(process).encode())
            if _heard(connection, deadline) == _GO:
                return True
    except OSError:
        pass
    time.sleep(min(_PAUSE, _left(deadline)))
    return False


def _heard(connection: socket.socket, deadline: float) -> bytes:
    connection.settimeout(max(_left(deadline), 1e-3))
    try:
        return connection.recv(64)
    except OSError:
        return b""


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.0)
