"""Hello world of two web servers, asked by 32 connections that stay open."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from bench.harness.goals import ratio
from bench.harness.rows import Case
from bench.loop.contenders import WRITING_LOOPS
from bench.loop.rows.base import HEAPS, Load, LoopRow
from bench.loop.rows.echo import CPU, RATE, SERVED, listening_socket
from bench.loop.rows.running import run_on, say, serve_forever

Serve = Callable[[], Coroutine[Any, Any, None]]

CONNECTIONS = 32
GREETING = "Hello, world!"


async def serve_uvicorn() -> None:
    """Serve with uvicorn and Starlette, for ever."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def greet(_request: Request) -> PlainTextResponse:
        return PlainTextResponse(GREETING)

    listener, port = listening_socket()
    config = uvicorn.Config(
        Starlette(routes=[Route("/", greet)]),
        http="httptools",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )
    server = uvicorn.Server(config)
    say(port=port)
    await server.serve(sockets=[listener])


async def serve_aiohttp() -> None:
    """Serve with aiohttp, for ever."""
    from aiohttp import web

    async def greet(_request: web.Request) -> web.Response:
        return web.Response(text=GREETING)

    application = web.Application()
    application.router.add_get("/", greet)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    listener, port = listening_socket()
    await web.SockSite(runner, listener).start()
    say(port=port)
    await serve_forever()


def _serving(serve: Serve) -> Callable[[Case], None]:
    def run(case: Case) -> None:
        run_on(case, serve())

    return run


def _row(name: str, title: str, serve: Serve, heap: str, packages: tuple[str, ...]) -> LoopRow:
    title = f"{title}, {heap} heap"
    return LoopRow(
        name=f"{name}-{heap}",
        title=title,
        about=f"GET / over {CONNECTIONS} connections that are kept alive.",
        metrics=SERVED,
        goals=(ratio(title, RATE, 1.05), ratio(f"{title}: CPU", CPU, 1.0)),
        run=_serving(serve),
        contenders=WRITING_LOOPS,
        load=Load("http", CONNECTIONS),
        environment=HEAPS[heap],
        packages=packages,
        bound_s=30,
    )


_UVICORN = ("uvicorn", "uvicorn and Starlette", serve_uvicorn)
_AIOHTTP = ("aiohttp", "aiohttp", serve_aiohttp)

ROWS = (
    *(_row(*_UVICORN, heap, ("uvicorn", "starlette", "httptools")) for heap in ("warm", "cold")),
    *(_row(*_AIOHTTP, heap, ("aiohttp",)) for heap in ("warm", "cold")),
)
