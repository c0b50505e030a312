"""The request that a handler serves, with the real frameworks, asked for while the handler runs."""

import asyncio
import sys

import aiohttp
import httpx
import pytest
import uvicorn
from aiohttp import web
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute

from offloop._watch.request import _READERS
from peers import is_installed

SECRET = "a-secret"


@pytest.fixture
def asked():
    """What was known of the requests, in order."""
    return []


@pytest.fixture
def handler(asked, ask):
    """A handler that has another thread ask what it serves."""

    async def handle(*_args: object, **_keywords: object) -> PlainTextResponse:
        await note()
        return PlainTextResponse("done")

    async def note() -> None:
        asked.append(ask(asyncio.current_task()).request)

    return handle


def get(loop, application, *paths, method="GET"):
    """Send requests to an ASGI application; the statuses."""

    async def main():
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answers = [await client.request(method, path) for path in paths]
        return [answer.status_code for answer in answers]

    return loop.run_until_complete(main())


def fastapi_application(handler, version="/v1"):
    """An application with a router, a mounted application and a middleware."""

    async def named(name: str):
        return await handler()

    application, inner = FastAPI(), FastAPI()
    router = APIRouter(prefix="/pictures")
    router.get("/{name}/small", response_model=None)(named)
    application.include_router(router, prefix=version)
    application.post("/items/{name}", response_model=None)(named)
    inner.get("/deep/{name}", response_model=None)(named)
    application.mount("/mounted", inner)
    return application


def test_fastapi_routes(loop, asked, handler):
    application = fastapi_application(handler)
    paths = [f"/v1/pictures/{SECRET}/small?key={SECRET}", f"/mounted/deep/{SECRET}"]
    assert get(loop, application, *paths) == [200, 200]
    assert get(loop, application, f"/items/{SECRET}", method="POST") == [200]
    assert asked == [
        "GET /v1/pictures/{name}/small",
        "GET /mounted/deep/{name}",
        "POST /items/{name}",
    ]


def test_starlette_routes_and_mounts(loop, asked, handler):
    class Endpoint(HTTPEndpoint):
        async def get(self, request):
            return await handler()

    inner = [Route("/deep/{name:path}", handler, methods=["PUT"]), Route("/class", Endpoint)]
    routes = [Mount("/a", routes=[Mount("/b/{number:int}", routes=inner)]), Route("/top", handler)]
    application = Starlette(routes=routes)
    assert get(loop, application, f"/a/b/7/deep/{SECRET}/x", method="PUT") == [200]
    assert get(loop, application, "/a/b/8/class", "/top") == [200, 200]
    assert asked == [
        "PUT /a/b/{number:int}/deep/{name:path}",
        "GET /a/b/{number:int}/class",
        "GET /top",
    ]


def test_request_without_a_route_yet_has_its_method(loop, asked, handler):
    async def dispatch(request, call_next):
        await handler()
        return await call_next(request)

    middleware = [Middleware(BaseHTTPMiddleware, dispatch=dispatch)]
    application = Starlette(routes=[Route("/{name}", handler)], middleware=middleware)
    assert get(loop, application, f"/{SECRET}", f"/{SECRET}/none") == [200, 404]
    assert asked == ["GET", "GET /{name}", "GET"]


def test_web_socket_has_its_route(loop, asked, ask):
    async def talk(socket):
        await socket.accept()
        asked.append(ask(asyncio.current_task()).request)

    async def main():
        scope = {"type": "websocket", "path": f"/talk/{SECRET}", "headers": [], "subprotocols": []}
        received = asyncio.Queue()
        received.put_nowait({"type": "websocket.connect"})

        async def send(message):
            pass

        await Starlette(routes=[WebSocketRoute("/talk/{name}", talk)])(scope, received.get, send)

    loop.run_until_complete(main())
    assert asked == ["WEBSOCKET /talk/{name}"]


def test_tasks_of_a_handler_serve_its_request(loop, asked, handler):
    async def in_tasks(request):
        await asyncio.gather(handler(), handler())
        async with asyncio.TaskGroup() as group:
            group.create_task(handler())
        return PlainTextResponse("done")

    assert get(loop, Starlette(routes=[Route("/{name}", in_tasks)]), f"/{SECRET}") == [200]
    assert asked == ["GET /{name}"] * 3


def test_callback_serves_no_request(loop, asked, ask):
    async def schedule(request):
        asyncio.get_running_loop().call_soon(lambda: asked.append(ask(schedule)))
        await asyncio.sleep(0)
        return PlainTextResponse("done")

    assert get(loop, Starlette(routes=[Route("/{name}", schedule)]), f"/{SECRET}") == [200]
    assert [facts.request for facts in asked] == [None]
    assert asked[0].callback.endswith("<locals>.schedule")


def test_waiting_handler_is_known_when_its_task_does_not_run(loop, asked, ask):
    waiting = []

    async def wait(request):
        waiting.append(asyncio.current_task())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return PlainTextResponse("done")

    async def main():
        application = Starlette(routes=[Route("/{name}", wait)])
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = asyncio.create_task(client.get(f"/{SECRET}"))
            while not waiting:
                await asyncio.sleep(0)
            asked.append(ask(waiting[0]).request)
            await answer

    loop.run_until_complete(main())
    assert asked == ["GET /{name}"]


@pytest.mark.parametrize("implementation", ["h11"])
def test_uvicorn_serves(loop, asked, handler, implementation):
    async def main():
        application = Starlette(routes=[Route("/{name}", handler)])
        config = uvicorn.Config(
            application, port=0, http=implementation, log_level="error", lifespan="off"
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.001)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient() as client:
            await client.get(f"http://127.0.0.1:{port}/{SECRET}")
        server.should_exit = True
        await serving

    loop.run_until_complete(main())
    assert asked == ["GET /{name}"]


def test_uvicorn_knows_the_method_of_any_application(loop, asked, ask):
    async def application(scope, receive, send):
        asked.append(ask(asyncio.current_task()).request)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def main():
        config = uvicorn.Config(application, port=0, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.001)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient() as client:
            await client.delete(f"http://127.0.0.1:{port}/{SECRET}")
        server.should_exit = True
        await serving

    loop.run_until_complete(main())
    assert asked == ["DELETE"]


def test_aiohttp_routes(loop, asked, ask):
    async def handle(request):
        asked.append(ask(asyncio.current_task()).request)
        return web.Response(text="done")

    @web.middleware
    async def middleware(request, handler):
        asked.append(ask(None).request)
        return await handler(request)

    async def main():
        application, inner = web.Application(middlewares=[middleware]), web.Application()
        application.router.add_get("/plain", handle)
        application.router.add_put("/items/{name}", handle)
        inner.router.add_get(r"/{number:\d+}", handle)
        application.add_subapp("/inner", inner)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as session:
            answers = [
                await session.get(f"{url}/plain?key={SECRET}"),
                await session.put(f"{url}/items/{SECRET}"),
                await session.get(f"{url}/inner/123"),
                await session.get(f"{url}/{SECRET}"),
            ]
            statuses = [answer.status for answer in answers]
        await runner.cleanup()
        return statuses

    assert loop.run_until_complete(main()) == [200, 200, 200, 404]
    served = ["GET /plain", "PUT /items/{name}", "GET /inner/{number}"]
    assert asked == [request for request in served for _ in range(2)] + ["GET"]


@pytest.mark.needs("litestar")
def test_litestar_routes(loop, asked, ask):
    import litestar

    @litestar.get("/items/{name:str}", media_type="text/plain")
    async def handle() -> str:
        asked.append(ask(asyncio.current_task()).request)
        return "done"

    router = litestar.Router("/v1", route_handlers=[handle])
    application = litestar.Litestar([router], openapi_config=None)
    assert get(loop, application, f"/v1/items/{SECRET}") == [200]
    assert asked == ["GET /v1/items/{name}"]


@pytest.mark.needs("quart")
def test_quart_routes(loop, asked, ask):
    import quart

    application = quart.Quart(__name__)

    @application.post("/items/<name>")
    async def handle(name):
        asked.append(ask(asyncio.current_task()).request)
        return name

    assert get(loop, application, f"/items/{SECRET}", method="POST") == [200]
    assert asked == ["POST /items/<name>"]


@pytest.mark.needs("django")
def test_django_routes(loop, asked, ask):
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse
    from django.urls import include, path

    async def handle(request, name):
        asked.append(ask(asyncio.current_task()).request)
        return HttpResponse(name)

    routes = [path("v1/", include([path("items/<slug:name>/", handle)]))]
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=routes, SECRET_KEY="of the test")
    settings.ROOT_URLCONF = tuple(routes)
    assert get(loop, get_asgi_application(), f"/v1/items/{SECRET}/") == [200]
    assert asked == ["GET /v1/items/<slug:name>/"]


def test_functions_of_frameworks_are_where_we_look():
    for name, places in _READERS.items():
        for module_name, _ in places:
            package = module_name.partition(".")[0]
            needed = "httptools" if module_name.endswith("httptools_impl") else package
            if not is_installed(needed):
                continue
            __import__(module_name)
            module = found = sys.modules[module_name]
            for part in name.split("."):
                found = getattr(found, part)
            assert found.__code__.co_qualname == name
            assert found.__code__.co_filename == module.__file__
