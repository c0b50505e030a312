"""What `asgi.py` does, for an aiohttp application: the request is noted, answers have their timing.

Source:     aiohttp's middlewares and its signal ``on_response_prepare`` (docs.aiohttp.org).
"""

from __future__ import annotations

from typing import Any

from offloop._observing import guarded
from offloop._serving import SERVING, Serving, blocked_time, count_calls, end
from offloop.integrations._peers import missing

try:
    from aiohttp import web
    from aiohttp.typedefs import Handler, Middleware
except ModuleNotFoundError as _error:
    raise missing("aiohttp", "aiohttp") from _error

__all__ = ["setup"]

# Older releases have plain names.
NOTE: Any = web.RequestKey("offloop.request", Serving) if hasattr(web, "RequestKey") else "offloop"
"""Where a request has its note; an application within another one finds it there."""


def setup(app: web.Application, *, server_timing: bool = True) -> None:
    """Note the requests of an application, and of those that are added to it, for the watch.

    >>> from aiohttp import web
    >>> app = web.Application()
    >>> setup(app)

    With ``server_timing``, answers have the header ``Server-Timing``, as `asgi.OffloopMiddleware`
    says. To be called before the application runs; aiohttp raises ``RuntimeError`` afterwards.
    """
    if not isinstance(app, web.Application):
        raise TypeError(f"app must be an aiohttp.web.Application, not {app!r}")
    if not isinstance(server_timing, bool):
        raise TypeError(f"server_timing must be True or False, not {server_timing!r}")
    app.middlewares.insert(0, _noting(server_timing))
    if server_timing:
        count_calls()
        app.on_response_prepare.append(_add_timing)


def _noting(server_timing: bool) -> Middleware:
    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        if NOTE in request:
            return await handler(request)
        resource = request.match_info.route.resource
        serving = Serving(
            request.method,
            request.path,
            route=None if resource is None else resource.canonical,
            blocked=guarded(blocked_time) if server_timing else None,
        )
        request[NOTE] = serving
        token = SERVING.set(serving)
        try:
            return await handler(request)
        finally:
            end(token)

    return note


async def _add_timing(request: web.BaseRequest, response: web.StreamResponse) -> None:
    guarded(_add_header, request, response)


def _add_header(request: web.BaseRequest, response: web.StreamResponse) -> None:
    serving = request.get(NOTE)
    if not isinstance(serving, Serving) or serving.is_told:
        return
    serving.is_told = True
    timing = serving.server_timing()
    if timing is not None:
        response.headers.add("Server-Timing", timing)
