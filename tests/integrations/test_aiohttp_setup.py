"""The middleware for aiohttp, on applications that are served over real HTTP."""

import asyncio
import contextlib
import sys

import pytest
from aiohttp import web
from http_served import ask

import offloop
from offloop._serving import SERVING, Serving
from offloop._watch.request import described
from offloop.integrations.aiohttp import setup


@contextlib.asynccontextmanager
async def running(application):
    """Serve an application of aiohttp's; its port."""
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def application_of(handler, **options):
    """An application with one route, set up."""
    application = web.Application()
    application.router.add_get("/items/{name}", handler)
    setup(application, **options)
    return application


async def one(application, target="/items/7"):
    """One answer."""
    async with running(application) as port:
        return await ask(port, target)


def test_answer_says_what_its_request_waited_for(run_on, told):
    async def handler(request):
        await offloop.to_thread(abs, -1)
        told.wait("handler")
        return web.Response(text=described(SERVING.get()))

    answer = run_on(one(application_of(handler)))
    assert (answer.status, answer.body) == (200, b"GET /items/{name}")
    assert answer.timing["loop"][0] > 0
    assert answer.timing["threads"][1] == "1 call"
    assert told.wait("handler", is_over=True).request == "GET /items/{name}"


def test_task_that_a_handler_leaves_behind_serves_its_request(run_on, told):
    left = []

    async def later():
        await asyncio.sleep(0)
        told.wait("later")

    async def handler(request):
        left.append(asyncio.create_task(later()))
        return web.Response()

    async def main():
        answer = await one(application_of(handler))
        await left[0]
        return answer

    assert run_on(main()).status == 200
    assert told.wait("later", is_over=True).request == "GET /items/{name}"


@pytest.mark.parametrize("error", [web.HTTPNotFound, LookupError])
def test_errors_have_their_timing_too(run_on, told, error):
    async def handler(request):
        raise error

    answer = run_on(one(application_of(handler)))
    assert answer.status == (404 if error is web.HTTPNotFound else 500)
    assert (list(answer.timing), SERVING.get()) == (["loop"], None)


def test_path_is_noted_where_nothing_matches(run_on):
    noted = []

    @web.middleware
    async def look(request, handler):
        noted.append(described(SERVING.get()))
        return await handler(request)

    application = application_of(look)
    application.middlewares.append(look)
    assert run_on(one(application, "/none?key=a-secret")).status == 404
    assert noted == ["GET /none"]


def test_stream_that_a_handler_begins_has_its_timing(run_on, told):
    async def handler(request):
        told.wait("handler")
        response = web.StreamResponse(headers={"Server-Timing": "db;dur=1.5;desc=q"})
        await response.prepare(request)
        for number in range(100):
            await response.write(b"%d\n" % number)
        return response

    answer = run_on(one(application_of(handler)))
    assert answer.body == b"".join(b"%d\n" % number for number in range(100))
    assert list(answer.timing) == ["db", "loop"]


def test_application_within_another_tells_once(run_on, told):
    async def handler(request):
        return web.Response(text=described(SERVING.get()))

    outer = web.Application()
    outer.add_subapp("/inner", application_of(handler))
    setup(outer)
    answer = run_on(one(outer, "/inner/items/7"))
    assert (answer.body, len(answer.all("server-timing"))) == (b"GET /inner/items/{name}", 1)


def test_header_is_left_out(run_on, told):
    async def handler(request):
        return web.Response(text=described(SERVING.get()))

    answer = run_on(one(application_of(handler, server_timing=False)))
    assert (answer.body, answer.timing) == (b"GET /items/{name}", {})


def test_failure_of_ours_fails_no_request(run_on, told, monkeypatch):
    raised = []

    def server_timing(self):
        raise LookupError("of ours")

    async def handler(request):
        return web.Response(text="done")

    monkeypatch.setattr(Serving, "server_timing", server_timing)
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    answer = run_on(one(application_of(handler)))
    assert (answer.status, answer.body) == (200, b"done")
    assert [str(one.exc_value) for one in raised] == ["of ours"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"app": None}, "app must be an aiohttp.web.Application, not None"),
        ({"server_timing": 1}, "server_timing must be True or False, not 1"),
    ],
)
def test_wrong_arguments_of_setup_are_refused(arguments, text):
    with pytest.raises(TypeError, match=text):
        setup(**{"app": web.Application(), **arguments})
