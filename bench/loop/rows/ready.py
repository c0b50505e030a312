"""Many clients that are ready at once, and a handler that takes its time.

A first request keeps the server busy until twenty more have come. From its answer on, each of
those waits for its own: the first as long as one handler takes, the mean half of all, unless
answers are kept back until the last handler is done.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import statistics
import time

from bench.harness.goals import ratio
from bench.harness.rows import Case, Metric
from bench.loop.contenders import WRITING_LOOPS
from bench.loop.rows.base import LoopRow
from bench.loop.rows.echo import listening_socket
from bench.loop.rows.running import run_on, say, serve_forever

FIRST = Metric("first_ms", "first answer", "ms")
MEAN = Metric("mean_ms", "mean answer", "ms")

CLIENTS = 20
#: What the handler takes, and how long the server is kept busy at first.
_HANDLER_S = 0.01
_BUSY_S = 0.05
_WAIT_MAX_S = 10.0

_BUSY, _WORK = b"b", b"w"


class _Handler(asyncio.Protocol):
    def __init__(self, began: int) -> None:
        self._began = began

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Compute, and answer."""
        if data == _BUSY:
            os.write(self._began, _BUSY)
        end = time.perf_counter() + (_BUSY_S if data == _BUSY else _HANDLER_S)
        while time.perf_counter() < end:
            pass
        self._transport.write(data)


def _ask(port: int, began_busy: int) -> dict[str, float]:
    """Be the clients: return when the first answer came, and the mean."""
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(CLIENTS + 1)]
    for client in clients:
        client.settimeout(_WAIT_MAX_S)
    busy, *others = clients
    # Every connection is known to the server before it is kept busy.
    for client in others:
        client.sendall(_WORK)
        client.recv(1)
    busy.sendall(_BUSY)
    os.read(began_busy, 1)
    for client in others:
        client.sendall(_WORK)
    busy.recv(1)
    began = time.perf_counter()
    waiting = selectors.DefaultSelector()
    for client in others:
        waiting.register(client, selectors.EVENT_READ)
    answered: list[float] = []
    while len(answered) < CLIENTS:
        found = waiting.select(_WAIT_MAX_S)
        if not found:
            raise TimeoutError(f"{CLIENTS - len(answered)} clients had no answer")
        now = (time.perf_counter() - began) * 1000
        for key, _ in found:
            waiting.unregister(key.fileobj)
            answered.append(now)
    return {"first_ms": answered[0], "mean_ms": statistics.mean(answered)}


async def _serve(listener: socket.socket, began_busy: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: _Handler(began_busy), sock=listener)
    await serve_forever()


def ready_at_once(case: Case) -> None:
    """Ask from this process, and serve from a child of it."""
    listener, port = listening_socket()
    reading, writing = os.pipe()
    server = os.fork()
    if server == 0:
        try:
            run_on(case, _serve(listener, writing))
        finally:
            os._exit(1)
    try:
        listener.close()
        say(**_ask(port, reading))
    finally:
        os.kill(server, 9)
        os.waitpid(server, 0)


ROWS = (
    LoopRow(
        name="ready-at-once",
        title=f"{CLIENTS} clients ready at once",
        about="Each wants a handler of 10 ms; timed from the moment at which the server is free.",
        metrics=(FIRST, MEAN),
        goals=(
            ratio(f"{CLIENTS} clients ready at once, first answer", FIRST, 1.05),
            ratio(f"{CLIENTS} clients ready at once, mean answer", MEAN, 1.05),
        ),
        run=ready_at_once,
        contenders=WRITING_LOOPS,
    ),
)
