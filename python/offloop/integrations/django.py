"""What `asgi.py` does, as a middleware of Django's own, for a project that is served by ASGI.

Source:     docs.djangoproject.com, "Middleware", "Asynchronous support".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from offloop._observing import guarded
from offloop._serving import SERVING, Serving, blocked_time, count_calls, end
from offloop.integrations._peers import missing

try:
    from asgiref.sync import iscoroutinefunction
    from django import conf
except ModuleNotFoundError as _error:
    raise missing("django", "django") from _error

__all__ = ["offloop_middleware"]

GetResponse = Callable[[Any], Any]


def offloop_middleware(get_response: GetResponse) -> GetResponse:
    """Note requests for the watch, and add ``Server-Timing`` to answers.

    To be named first in the settings::

        MIDDLEWARE = ["offloop.integrations.django.offloop_middleware", ...]

    The setting ``OFFLOOP_SERVER_TIMING = False`` leaves the header out. Under WSGI there is no
    event loop, and the middleware does nothing.
    """
    if not iscoroutinefunction(get_response):
        return get_response
    server_timing = bool(getattr(conf.settings, "OFFLOOP_SERVER_TIMING", True))
    if server_timing:
        count_calls()

    async def note(request: Any) -> Any:
        serving = Serving(
            request.method,
            request.path,
            origin=request,
            blocked=guarded(blocked_time) if server_timing else None,
        )
        token = SERVING.set(serving)
        try:
            response = await get_response(request)
        finally:
            end(token)
        if server_timing:
            guarded(_add_header, serving, response)
        return response

    return note


# Django asks for these: under ASGI it is asynchronous, under WSGI it is not there.
offloop_middleware.sync_capable = True  # type: ignore[attr-defined]
offloop_middleware.async_capable = True  # type: ignore[attr-defined]


def _add_header(serving: Serving, response: Any) -> None:
    timing = serving.server_timing()
    if timing is None:
        return
    known = response.get("Server-Timing")
    response["Server-Timing"] = timing if known is None else f"{known}, {timing}"
