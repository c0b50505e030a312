"""Hello world of two web servers, asked by 32 connections that stay open."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from bench.loop.contenders import WRITING_LOOPS, Contender
from bench.loop.rows.base import BEST, Load, Row, goal
from bench.loop.rows.echo import CPU, RATE, SERVED, listening_socket
from bench.loop.rows.running import run_on, say, serve_forever

Serve = Callable[[], Coroutine[Any, Any, None]]

CONNECTIONS = 32
GREETING = "Hello, world!"


async def _serve_uvicorn() -> None:
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


async def _serve_aiohttp() -> None:
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


def _serving(serve: Serve) -> Callable[[Contender, bool], None]:
    def run(contender: Contender, _quick: bool) -> None:
        run_on(contender, serve())

    return run


def _row(name: str, title: str, serve: Serve, heap: str) -> Row:
    title = f"{title}, {heap} heap"
    return Row(
        name=f"{name}-{heap}",
        title=title,
        about=f"GET / over {CONNECTIONS} connections that are kept alive.",
        metrics=SERVED,
        goals=(goal(title, RATE, 1.05, BEST), goal(f"{title}: CPU", CPU, 1.0, BEST)),
        run=_serving(serve),
        contenders=WRITING_LOOPS,
        load=Load("http", CONNECTIONS),
        heap=heap,
        bound_s=30,
    )


ROWS = (
    *(_row("uvicorn", "uvicorn and Starlette", _serve_uvicorn, heap) for heap in ("warm", "cold")),
    *(_row("aiohttp", "aiohttp", _serve_aiohttp, heap) for heap in ("warm", "cold")),
)
