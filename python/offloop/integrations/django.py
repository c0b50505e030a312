"""What `asgi.py` does, as a middleware of Django's own, for a project that is served by ASGI.

Source:     docs.djangoproject.com, "Middleware", "Asynchronous support"; asgiref/sync.py,
            as of 3.13 (where a thread finds the loop that it serves).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from offloop._observing import guarded
from offloop._serving import SERVING, Serving, blocked_time, count_calls, end
from offloop.integrations._peers import missing

try:
    from asgiref.sync import SyncToAsync, iscoroutinefunction
    from django import conf
except ModuleNotFoundError as _error:
    raise missing("django", "django") from _error

__all__ = ["offloop_middleware"]

GetResponse = Callable[[Any], Any]


def offloop_middleware(get_response: GetResponse) -> GetResponse:
    """Note requests for the watch, and add ``Server-Timing`` to answers.

    To be named first in the settings::

        MIDDLEWARE = ["offloop.integrations.django.offloop_middleware", ...]

    The setting ``OFFLOOP_SERVER_TIMING = False`` leaves the header out. A middleware further in
    that is only synchronous has Django call this one in a thread, and changes nothing else. Under
    WSGI there is no event loop, and the middleware does nothing.
    """
    server_timing = bool(getattr(conf.settings, "OFFLOOP_SERVER_TIMING", True))
    if not iscoroutinefunction(get_response):
        return _in_a_thread(get_response, server_timing)
    if server_timing:
        count_calls()

    async def note(request: Any) -> Any:
        serving = _serving(request, server_timing)
        token = SERVING.set(serving)
        try:
            response = await get_response(request)
        finally:
            end(token)
        guarded(_finish, serving, response, server_timing)
        return response

    return note


def _in_a_thread(get_response: GetResponse, server_timing: bool) -> GetResponse:
    """The middleware between synchronous ones: asgiref runs them in a thread, for a loop."""

    def note(request: Any) -> Any:
        if not hasattr(request, "scope"):
            # Of WSGI.
            return get_response(request)
        if server_timing:
            count_calls()
        loop = getattr(SyncToAsync.threadlocal, "main_event_loop", None)
        serving = _serving(request, server_timing and loop is not None, loop)
        # What runs on the loop for this thread gets a copy of its context.
        token = SERVING.set(serving)
        try:
            response = get_response(request)
        finally:
            end(token)
        guarded(_finish, serving, response, server_timing)
        return response

    return note


# Django asks for these: under ASGI it is asynchronous, under WSGI it is not there.
offloop_middleware.sync_capable = True  # type: ignore[attr-defined]
offloop_middleware.async_capable = True  # type: ignore[attr-defined]


def _serving(request: Any, is_timed: bool, loop: Any = None) -> Serving:
    return Serving(
        request.method,
        request.path,
        origin=request,
        blocked=guarded(blocked_time, loop) if is_timed else None,
    )


def _finish(serving: Serving, response: Any, server_timing: bool) -> None:
    """The head of an answer is there; the pieces of a stream are still to come."""
    if getattr(response, "is_async", False):
        response.streaming_content = _noted(serving, response.streaming_content)
    timing = serving.server_timing() if server_timing else None
    if timing is None:
        return
    known = response.get("Server-Timing")
    response["Server-Timing"] = timing if known is None else f"{known}, {timing}"


async def _noted(serving: Serving, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces of a stream, which are made for its request."""
    token = SERVING.set(serving)
    try:
        async for piece in pieces:
            yield piece
    finally:
        end(token)
