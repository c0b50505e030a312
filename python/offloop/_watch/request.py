"""The request that a stack serves, as ``GET /thumbnails/{name}``.

Web frameworks keep the request in variables of their own functions, through which every handler is
called. So the stack of a handler says which request it serves, whatever the handler does. Only
these functions are looked into, and only the method and the route's pattern are taken: no path, no
query, no header.

A function counts as a framework's if its qualified name and its file are those that the framework's
loaded module has.

Source:     starlette/routing.py, fastapi/routing.py, aiohttp/web_app.py, aiohttp/web_protocol.py,
            uvicorn/protocols/http, as of the versions in requirements/lock.txt; litestar 2.25,
            quart 0.23, django 6.1.
Invariants: those of `reading.py`.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import TYPE_CHECKING, Any

from offloop._watch.reading import attribute, entries_of, local_variables, text_of

if TYPE_CHECKING:
    from offloop._serving import Serving

__all__ = ["described", "noted_request", "request_of"]


class _Found:
    """What is known of a request, from one stack entry to the next further in."""

    def __init__(self) -> None:
        self.method: str | None = None
        self.mounts = ""
        self.route: str | None = None

    def see_scope(self, scope: object) -> None:
        """Take the method from what ASGI hands to every application."""
        entries = dict(entries_of(scope))
        if entries.get("type") == "http":
            self.method = text_of(entries.get("method")) or self.method
        elif entries.get("type") == "websocket":
            self.method = "WEBSOCKET"

    def text(self) -> str | None:
        """The request in words."""
        if self.method is None:
            return None
        return self.method if self.route is None else f"{self.method} {self.route}"


def _application(frame: types.FrameType, found: _Found) -> None:
    (scope,) = local_variables(frame, "scope")
    found.see_scope(scope)


def _cycle(frame: types.FrameType, found: _Found) -> None:
    (cycle,) = local_variables(frame, "self")
    found.see_scope(attribute(cycle, "scope"))


def _mount(frame: types.FrameType, found: _Found) -> None:
    mount, scope = local_variables(frame, "self", "scope")
    found.see_scope(scope)
    found.mounts += text_of(attribute(mount, "path")) or ""


def _route(frame: types.FrameType, found: _Found) -> None:
    route, scope = local_variables(frame, "self", "scope")
    found.see_scope(scope)
    path = text_of(attribute(route, "path"))
    if path is not None and found.route is None:
        found.route = found.mounts + path


def _fastapi_route(frame: types.FrameType, found: _Found) -> None:
    # A route of an included router is one object for all that include it: its place in this
    # application is in the context.
    (context,) = local_variables(frame, "effective_context")
    path = text_of(attribute(context, "path"))
    if path:
        found.route = found.mounts + path
    _route(frame, found)


def _aiohttp(frame: types.FrameType, found: _Found) -> None:
    (request,) = local_variables(frame, "request")
    found.method = text_of(attribute(request, "_method")) or found.method
    route = attribute(attribute(request, "_match_info"), "_route")
    resource = attribute(route, "_resource")
    for name in ("_formatter", "_path", "_prefix"):
        path = text_of(attribute(resource, name))
        if path is not None:
            found.route = path
            return


def _litestar_route(frame: types.FrameType, found: _Found) -> None:
    route, scope = local_variables(frame, "self", "scope")
    found.see_scope(scope)
    found.route = text_of(attribute(route, "path_format")) or found.route


def _quart(frame: types.FrameType, found: _Found) -> None:
    (request,) = local_variables(frame, "request")
    found.method = text_of(attribute(request, "method")) or found.method
    found.route = text_of(attribute(attribute(request, "url_rule"), "rule")) or found.route


def _django(frame: types.FrameType, found: _Found) -> None:
    (request,) = local_variables(frame, "request")
    found.method = text_of(attribute(request, "method")) or found.method
    route = text_of(attribute(attribute(request, "resolver_match"), "route"))
    if route is not None:
        found.route = f"/{route}"


_Reader = Callable[[types.FrameType, _Found], None]

_STARLETTE = "starlette.routing"

_READERS: dict[str, list[tuple[str, _Reader]]] = {
    "APIRoute.handle": [("fastapi.routing", _fastapi_route)],
    "Application._handle": [("aiohttp.web_app", _aiohttp)],
    "BaseHandler._get_response_async": [("django.core.handlers.base", _django)],
    "BaseHTTPMiddleware.__call__": [("starlette.middleware.base", _application)],
    "FastAPI.__call__": [("fastapi.applications", _application)],
    "HTTPRoute.handle": [("litestar.routes.http", _litestar_route)],
    "Mount.handle": [(_STARLETTE, _mount)],
    "Quart.handle_request": [("quart.app", _quart)],
    "RequestHandler._handle_request": [("aiohttp.web_protocol", _aiohttp)],
    "RequestResponseCycle.run_asgi": [
        ("uvicorn.protocols.http.h11_impl", _cycle),
        ("uvicorn.protocols.http.httptools_impl", _cycle),
    ],
    "Route.handle": [(_STARLETTE, _route)],
    "Router.__call__": [(_STARLETTE, _application)],
    "Starlette.__call__": [("starlette.applications", _application)],
    "WebSocketRoute.handle": [
        (_STARLETTE, _route),
        ("litestar.routes.websocket", _litestar_route),
    ],
}
"""Qualified names of functions, with the modules that define them."""


def noted_request(context: object, of_stack: str | None) -> str | None:
    """What is known of a request by its stack, or by the note that a middleware has made of it.

    The stack knows routes of applications within applications better; without a route it knows
    less.
    """
    if of_stack is not None and " " in of_stack:
        return of_stack
    # Nothing has noted a request while the module was not imported.
    module = sys.modules.get("offloop._serving")
    if module is None or type(context) is not Context:
        return of_stack
    serving = context.get(module.SERVING)
    return of_stack if serving is None else described(serving) or of_stack


def described(serving: Serving) -> str | None:
    """A request in words, by its note."""
    method = text_of(serving.method)
    path = text_of(serving.route) or _route_of(serving.origin) or text_of(serving.path)
    if method is None or path is None:
        return method
    return f"{method} {path}"


def _route_of(origin: object) -> str | None:
    """The pattern that a framework has matched by now, if it says so."""
    if type(origin) is not dict:
        route = text_of(attribute(attribute(origin, "resolver_match"), "route"))
        return None if route is None else f"/{route}"
    scope = dict(entries_of(origin))
    template = text_of(scope.get("path_template"))
    if template is not None:
        return template
    context = dict(entries_of(scope.get("fastapi"))).get("effective_route_context")
    path = text_of(attribute(context, "path")) or text_of(attribute(scope.get("route"), "path"))
    if path is None:
        return None
    # Of an application within another one: where it is mounted.
    root, outer = text_of(scope.get("root_path")), text_of(scope.get("app_root_path"))
    return f"{(root or '')[len(outer or '') :]}{path}" if outer is not None else path


def _reader_of(code: types.CodeType) -> _Reader | None:
    name = code.co_qualname
    if type(name) is not str:
        return None
    for module_name, reader in _READERS.get(name, ()):
        module: Any = sys.modules.get(module_name)
        if type(module) is types.ModuleType:
            file = types.ModuleType.__getattribute__(module, "__dict__").get("__file__")
            if type(file) is str and file == code.co_filename:
                return reader
    return None


def request_of(frames: Iterable[types.FrameType]) -> str | None:
    """The request that a stack serves; the outermost function comes first."""
    found = _Found()
    for frame in frames:
        reader = _reader_of(frame.f_code)
        if reader is not None:
            reader(frame, found)
    return found.text()
