"""Two servers that answer as little as they can, and a client that asks them."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import offloop

CONNECTIONS = 20
_REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"

Load = Callable[[int], Awaitable[None]]


class Answered:
    """How often a server of this process has answered."""

    count = 0


def ask(port: int, requests: int) -> None:
    """Ask a server so often, on all connections at once."""
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(requests // CONNECTIONS):
        for connection in connections:
            connection.sendall(_REQUEST)
        for connection in connections:
            _take_answer(connection)


def _take_answer(connection: socket.socket) -> None:
    taken = b""
    while b"\r\n\r\n" not in taken:
        taken += connection.recv(65_536)
    head, _, body = taken.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    assert found is not None, head
    rest = int(found.group(1)) - len(body)
    while rest > 0:
        rest -= len(connection.recv(65_536))


async def serve_aiohttp(load: Load) -> None:
    """Serve with aiohttp while the load lasts."""
    from aiohttp import web

    async def handle(_request: web.Request) -> web.Response:
        Answered.count += 1
        return web.Response(text="hello")

    application = web.Application()
    application.router.add_get("/", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await load(runner.addresses[0][1])
    await runner.cleanup()


async def serve_uvicorn(load: Load) -> None:
    """Serve with uvicorn while the load lasts."""
    import uvicorn

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello"})
        Answered.count += 1

    # The standard loop sets TCP_NODELAY for sockets that name their protocol.
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(application, log_level="critical", access_log=False, lifespan="off")
        )
        serving = asyncio.create_task(server.serve([listening]))
        await load(listening.getsockname()[1])
        server.should_exit = True
        await serving


def run_uvloop(main: Coroutine[Any, Any, None]) -> None:
    """As `asyncio.run`."""
    import uvloop

    uvloop.run(main)


SERVERS = {"uvicorn": serve_uvicorn, "aiohttp": serve_aiohttp}
LOOPS = {"offloop": offloop.run, "asyncio": asyncio.run, "uvloop": run_uvloop}
