"""What the watch, and the views, add to a request: instructions of the server outside the kernel.

    python -m bench.watch.instructions

It needs valgrind. Each server answers 400 and 2,400 requests of 20 connections; the difference is
what 2,000 requests take. No stall reaches the watch's threshold: under valgrind all is slow. The
views are those of ``offloop run --page --trace FILE``: the live page, `offloop top`'s socket, and a
trace, with the watch.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import offloop

CONNECTIONS = 20
REQUESTS = (400, 2_400)
THRESHOLD_S = 1_000.0
MODULE = "bench.watch.instructions"
_REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"

Load = Callable[[int], Awaitable[None]]


def ask(port: int, requests: int) -> None:
    """Ask a server so often, on all connections at once."""
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
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

    with socket.create_server(("127.0.0.1", 0)) as listening:
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


def serve(name: str, loop: str, watched: str, requests: str) -> None:
    """Answer so many requests, and end."""

    async def load(port: int) -> None:
        words = ("-m", MODULE, "ask", str(port), requests)
        client = await asyncio.create_subprocess_exec(sys.executable, *words)
        if await client.wait() != 0:
            raise SystemExit("the client has failed")

    async def main() -> None:
        if watched == "with the watch":
            offloop.watch(THRESHOLD_S)
        await SERVERS[name](load)

    LOOPS[loop](main())


def instructions_of(name: str, loop: str, watched: str, requests: int) -> int:
    """What the process of a server executes, its children left out."""
    words = ("serve", name, loop, watched, str(requests))
    with tempfile.TemporaryDirectory() as folder:
        out = f"--callgrind-out-file={Path(folder) / 'out'}"
        under: tuple[str, ...] = ()
        if watched == "with views":
            under = ("-m", "offloop", "run", "--no-report", "--loop", loop)
            under += ("--threshold", str(THRESHOLD_S), "--page", "--trace", f"{folder}/trace.json")
        command = ["valgrind", "--tool=callgrind", out, sys.executable, *under, "-m", MODULE]
        # The same order of each dictionary's keys in all of them.
        variables = {**os.environ, "PYTHONHASHSEED": "0"}
        ended = subprocess.run(
            [*command, *words], capture_output=True, text=True, check=True, env=variables
        )
    found = re.search(r"Collected : (\d+)", ended.stderr)
    assert found is not None, ended.stderr
    return int(found.group(1))


def taken_by(name: str, loop: str, watched: str) -> float:
    """What a request takes."""
    few, many = (instructions_of(name, loop, watched, requests) for requests in REQUESTS)
    return (many - few) / (REQUESTS[1] - REQUESTS[0])


def measure() -> None:
    """Print what a request takes without the watch, with it, and with the views."""
    for name, loop in itertools.product(SERVERS, LOOPS):
        plain = taken_by(name, loop, "without")
        print(f"{name} on {loop}: {plain:,.0f} instructions a request", end="", flush=True)
        for watched in ("with the watch", "with views"):
            added = taken_by(name, loop, watched) - plain
            print(f", {added:+,.0f} {watched} ({added / plain:+.1%})", end="", flush=True)
        print(flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", name, loop, watched, requests]:
            serve(name, loop, watched, requests)
        case ["ask", port, requests]:
            ask(int(port), int(requests))
        case _:
            measure()
