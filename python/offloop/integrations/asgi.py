"""A middleware for ASGI applications: FastAPI, Starlette, Litestar, Quart, Django.

It notes the request, so that the watch tells it with a stall, also one of a task or a callback that
the handler has made; and it adds ``Server-Timing`` to the answer. It needs nothing but offloop.

Source:     the ASGI specification, version 3 (asgi.readthedocs.io); Server Timing (w3.org).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from offloop._observing import guarded
from offloop._serving import SERVING, Serving, blocked_time, count_calls, end

__all__ = ["OffloopMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

NOTE = "offloop.request"
"""Where a scope has the note; an application that is called inside of another finds it there."""


class OffloopMiddleware:
    """An ASGI application around another one.

    Args:
        app: the application.
        server_timing: whether answers say for how many milliseconds the loop was blocked while
            their request was served (``loop``, if the watch is on), and how long calls in lanes
            were waited for (``processes``, ``threads``), until the answer began.

    Requests and web sockets are noted for the watch, as ``GET /items/{id}``: the route where the
    framework has put it into the scope, the path without the query elsewhere. Lifespan events and
    messages pass as they are, and so do errors. Thread-safe, as far as the application is.

    >>> async def app(scope, receive, send):
    ...     await send({"type": "http.response.start", "status": 204, "headers": []})
    ...     await send({"type": "http.response.body", "body": b""})
    >>> app = OffloopMiddleware(app)

    With FastAPI and Starlette: ``app.add_middleware(OffloopMiddleware)``.
    """

    def __init__(self, app: Application, *, server_timing: bool = True) -> None:
        if not callable(app):
            raise TypeError(f"app must be an ASGI application, not {app!r}")
        if not isinstance(server_timing, bool):
            raise TypeError(f"server_timing must be True or False, not {server_timing!r}")
        self.app = app
        self._server_timing = server_timing
        if server_timing:
            count_calls()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope.get("type")
        if kind not in ("http", "websocket") or NOTE in scope:
            await self.app(scope, receive, send)
            return
        is_timed = self._server_timing and kind == "http"
        method = scope.get("method") if kind == "http" else "WEBSOCKET"
        serving = Serving(
            method,
            scope.get("path"),
            origin=scope,
            blocked=guarded(blocked_time) if is_timed else None,
        )
        # In the scope itself: frameworks pass the route to middlewares around this one in it.
        scope[NOTE] = serving
        token = SERVING.set(serving)
        try:
            await self.app(scope, receive, _timed(send, serving) if is_timed else send)
        finally:
            end(token)
            scope.pop(NOTE, None)


def _timed(send: Send, serving: Serving) -> Send:
    """Add what a request has cost to the head of its answer."""

    def send_timed(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message = guarded(_with_timing, message, serving) or message
        return send(message)

    return send_timed


def _with_timing(message: Message, serving: Serving) -> Message:
    timing = serving.server_timing()
    if timing is None:
        return message
    header = (b"server-timing", timing.encode("ascii"))
    return {**message, "headers": [*message.get("headers", ()), header]}
