"""The middleware for ASGI, around applications that are served over real HTTP."""

import asyncio
import contextvars
import sys

import pytest
import websockets
from fastapi import APIRouter, FastAPI
from http_served import ask, plain, served
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

import offloop
from offloop._serving import SERVING, Serving
from offloop._watch.request import described
from offloop.integrations.asgi import NOTE, OffloopMiddleware

SECRET = "a-secret"


async def one(application, target="/", **options):
    """One answer of an application."""
    async with served(application, **options) as port:
        return await ask(port, target)


def test_answer_says_for_how_long_the_loop_was_blocked(run_on, told):
    async def act(scope):
        told.wait("act")

    answer = run_on(one(OffloopMiddleware(plain(act)), f"/items?key={SECRET}"))
    assert (answer.status, answer.body) == (200, b"one two")
    blocked_ms, text = answer.timing["loop"]
    assert (blocked_ms > 0, text) == (True, "event loop blocked")
    assert told.wait("act", is_over=True).request == "GET /items"


def test_request_that_waits_meanwhile_was_blocked_too(run_on, told):
    arrived = []

    async def act(scope):
        if scope["path"] == "/blocks":
            while not arrived:
                await asyncio.sleep(0)
            told.wait("act")
        else:
            arrived.append(scope)
            await asyncio.sleep(0)

    async def main():
        async with served(OffloopMiddleware(plain(act))) as port:
            return await asyncio.gather(ask(port, "/blocks"), ask(port, "/waits"))

    for answer in run_on(main()):
        assert answer.timing["loop"][0] > 0


def test_without_a_watch_and_calls_nothing_is_said(run_on):
    async def act(scope):
        await asyncio.sleep(0)

    answer = run_on(one(OffloopMiddleware(plain(act))))
    assert list(answer.timing) == ["db"]
    assert not _is_serving()


def test_calls_in_lanes_are_counted(run_on):
    async def act(scope):
        async with asyncio.TaskGroup() as group:
            group.create_task(offloop.to_process(abs, -1))
            group.create_task(offloop.to_process(abs, -2))
        await offloop.to_thread(abs, -3)
        with pytest.raises(ZeroDivisionError):
            await offloop.to_thread(divmod, 1, 0)

    async def main():
        await offloop.to_process(abs, -4)
        async with served(OffloopMiddleware(plain(act))) as port:
            return [await ask(port, "/") for _ in range(2)]

    for answer in run_on(main()):
        counts = {name: text for name, (_, text) in answer.timing.items()}
        assert counts == {"db": "q", "processes": "2 calls", "threads": "2 calls"}


def test_one_call_is_a_call(run_on):
    async def act(scope):
        await offloop.to_thread(abs, -3)

    answer = run_on(one(OffloopMiddleware(plain(act))))
    assert answer.timing["threads"][1] == "1 call"


def test_nothing_is_added_where_it_is_not_wanted(run_on, told):
    async def act(scope):
        await offloop.to_thread(abs, -3)
        told.wait("act")

    answer = run_on(one(OffloopMiddleware(plain(act), server_timing=False), "/items"))
    assert list(answer.timing) == ["db"]
    assert told.wait("act", is_over=True).request == "GET /items"


def test_middleware_within_itself_adds_one_header(run_on, told):
    async def act(scope):
        await asyncio.sleep(0)

    answer = run_on(one(OffloopMiddleware(OffloopMiddleware(plain(act)))))
    assert len(answer.all("server-timing")) == 2
    assert list(answer.timing) == ["db", "loop"]


def _is_serving():
    return SERVING.get() is not None


def test_streams_arrive_in_pieces_and_whole(run_on, told):
    async def pieces():
        for number in range(1_000):
            yield f"data: {number}\n\n"

    async def stream(request):
        return StreamingResponse(pieces(), media_type="text/event-stream")

    application = Starlette(
        routes=[Route("/events", stream)], middleware=[Middleware(OffloopMiddleware)]
    )
    answer = run_on(one(application, "/events"))
    assert answer.body.count(b"data: ") == 1_000
    assert "loop" in answer.timing


def test_errors_of_the_application_pass(run_on, told):
    seen = []

    async def act(scope):
        raise LookupError("of the application")

    async def around(scope, receive, send):
        try:
            await OffloopMiddleware(plain(act))(scope, receive, send)
        except LookupError as error:
            seen.append((error.args, _is_serving()))
            raise

    answer = run_on(one(around))
    assert (answer.status, seen) == (500, [(("of the application",), False)])


def test_error_after_the_head_ends_the_connection(run_on, told):
    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one ", "more_body": True})
        raise LookupError("in the middle")

    answer = run_on(one(OffloopMiddleware(application)))
    assert (answer.status, answer.body, answer.is_whole) == (200, b"one ", False)


def test_web_sockets_are_noted_and_pass(run_on, told):
    async def application(scope, receive, send):
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        text = (await receive())["text"]
        told.wait("application")
        await send({"type": "websocket.send", "text": text})
        await send({"type": "websocket.close"})

    async def main():
        async with served(OffloopMiddleware(application), ws="websockets-sansio") as port:
            async with websockets.connect(f"ws://127.0.0.1:{port}/talk") as connection:
                await connection.send("a text")
                assert "server-timing" not in connection.response.headers
                return await connection.recv()

    assert run_on(main()) == "a text"
    assert told.wait("application", is_over=True).request == "WEBSOCKET /talk"


def test_lifespan_passes(run_on):
    events = []

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            events.append((await receive())["type"])
            await send({"type": "lifespan.startup.complete"})
            events.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
        else:
            events.append(scope["state"])
            await plain(lambda _scope: asyncio.sleep(0))(scope, receive, send)

    assert run_on(one(OffloopMiddleware(application), lifespan="on")).status == 200
    assert events == ["lifespan.startup", {}, "lifespan.shutdown"]


@pytest.mark.parametrize("scope", [{}, {"type": "of another time"}, {"type": "http"}])
def test_odd_scopes_pass(run_on, scope):
    seen = []

    async def application(scope, receive, send):
        seen.append(scope["type"] if scope else None)
        # Neither headers nor a list of them are promised.
        await send({"type": "http.response.start"})
        await send({"type": "http.response.start", "headers": ((b"a", b"b"),)})

    async def send(message):
        seen.append(message)

    run_on(OffloopMiddleware(application)(scope, None, send))
    assert seen == [
        scope.get("type"),
        {"type": "http.response.start"},
        {"type": "http.response.start", "headers": ((b"a", b"b"),)},
    ]


def test_what_fails_here_fails_no_request(run_on, told, monkeypatch):
    raised = []

    def server_timing(self):
        raise LookupError("of ours")

    async def act(scope):
        await offloop.to_thread(abs, -1)

    monkeypatch.setattr(Serving, "server_timing", server_timing)
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    answer = run_on(one(OffloopMiddleware(plain(act))))
    assert (answer.status, list(answer.timing)) == (200, ["db"])
    assert [str(one.exc_value) for one in raised] == ["of ours"]


def test_task_that_a_handler_leaves_behind_serves_its_request(run_on, told):
    left = []

    async def later(told):
        await asyncio.sleep(0)
        told.wait("later")

    async def act(scope):
        left.append(asyncio.create_task(later(told)))

    async def main():
        answer = await one(OffloopMiddleware(plain(act)), "/items")
        await left[0]
        return answer

    run_on(main())
    assert told.wait("later", is_over=True).request == "GET /items"


def test_request_that_is_never_finished_ends_silently():
    async def application(scope, receive, send):
        await receive()

    class Never:
        def __await__(self):
            yield

    serving = OffloopMiddleware(application)({"type": "http"}, Never, None)
    contextvars.copy_context().run(serving.send, None)
    serving.close()
    assert not _is_serving()


def noted(make, *targets):
    """What the note of each request says at the end of its handler."""
    found = []

    async def handle(*_args: object, **_keywords: object) -> PlainTextResponse:
        found.append(described(SERVING.get()))
        return PlainTextResponse("done")

    async def main():
        async with served(make(handle)) as port:
            return [(await ask(port, target)).status for target in targets]

    assert asyncio.run(main()) == [200] * len(targets)
    return found


def fastapi_application(handle):
    """An application with a router, and with another one mounted."""

    async def named(name: str):
        return await handle()

    application, inner, router = FastAPI(), FastAPI(), APIRouter(prefix="/pictures")
    application.add_middleware(OffloopMiddleware)
    router.get("/{name}/small", response_model=None)(named)
    application.include_router(router, prefix="/v1")
    inner.get("/deep/{name}", response_model=None)(named)
    application.mount("/mounted", inner)
    return application


def test_notes_have_routes_of_fastapi():
    targets = [f"/v1/pictures/{SECRET}/small?key={SECRET}", f"/mounted/deep/{SECRET}"]
    assert noted(fastapi_application, *targets) == [
        "GET /v1/pictures/{name}/small",
        "GET /mounted/deep/{name}",
    ]


def starlette_application(handle):
    """An application with another one mounted."""
    routes = [Mount("/a", routes=[Route("/{name}", handle)]), Route("/top/{name}", handle)]
    return Starlette(routes=routes, middleware=[Middleware(OffloopMiddleware)])


def test_notes_have_routes_of_starlette():
    targets = [f"/a/{SECRET}", f"/top/{SECRET}?key={SECRET}"]
    assert noted(starlette_application, *targets) == ["GET /a/{name}", "GET /top/{name}"]


def test_middlewares_around_this_one_see_the_route():
    seen = []

    class Around:
        """An ASGI middleware that looks at the scope once the answer is there."""

        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)
            path, params = scope["route"].path, scope["path_params"]
            seen.append((path, params, scope["endpoint"].__name__, NOTE in scope))

    application = FastAPI()
    application.add_middleware(OffloopMiddleware)
    application.add_middleware(Around)

    @application.get("/items/{name}")
    async def item(name: str):
        return name

    assert asyncio.run(one(application, "/items/7")).status == 200
    assert seen == [("/items/{name}", {"name": "7"}, "item", False)]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((None,), "app must be an ASGI application, not None"),
        ((plain, "yes"), "server_timing must be True or False, not 'yes'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, text):
    app, *rest = arguments
    with pytest.raises(TypeError, match=text):
        OffloopMiddleware(app, **dict(zip(["server_timing"], rest, strict=False)))
