"""The middleware for Django, in a project that is served over real HTTP."""

import asyncio

import pytest
from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.test import RequestFactory, override_settings
from django.urls import include, path
from http_served import ask, served

import offloop
from offloop._serving import SERVING
from offloop._watch.request import described
from offloop.integrations.django import offloop_middleware

NAME = "offloop.integrations.django.offloop_middleware"


def only_synchronous(get_response):
    """A middleware as Django's documentation has its first one."""

    def middleware(request):
        return get_response(request)

    return middleware


def one(view, *further_in, **changed):
    """One answer of a view, with middlewares between ours and the view; a coroutine."""
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=(), SECRET_KEY="of the test")
    urls = (path("v1/", include([path("items/<slug:name>/", view)])),)
    middleware = [NAME, *further_in]
    with override_settings(ROOT_URLCONF=urls, MIDDLEWARE=middleware, **changed):
        application = get_asgi_application()

    async def main():
        with override_settings(ROOT_URLCONF=urls):
            async with served(application) as port:
                return await ask(port, "/v1/items/7/")

    return main()


def test_answer_of_django_says_what_its_request_waited_for(run_on, told):
    async def view(request, name):
        await offloop.to_thread(abs, -1)
        told.wait("view")
        return HttpResponse(described(SERVING.get()), headers={"Server-Timing": "db;dur=1;desc=q"})

    answer = run_on(one(view))
    assert answer.body == b"GET /v1/items/<slug:name>/"
    assert list(answer.timing) == ["db", "loop", "threads"]
    assert answer.timing["loop"][0] > 0
    assert told.wait("view", is_over=True).request == "GET /v1/items/<slug:name>/"


def test_streams_of_django_pass(run_on, told):
    async def pieces():
        for number in range(100):
            yield f"{number}\n"

    async def view(request, name):
        return StreamingHttpResponse(pieces())

    answer = run_on(one(view))
    assert (answer.status, answer.body.count(b"9\n")) == (200, 10)
    assert list(answer.timing) == ["loop"]


def test_errors_of_a_view_are_answered_by_django(run_on, told):
    async def view(request, name):
        raise LookupError("of the view")

    answer = run_on(one(view, LOGGING_CONFIG=None))
    assert (answer.status, SERVING.get()) == (500, None)
    assert list(answer.timing) == ["loop"]


def test_view_that_blocks_a_thread_blocks_no_loop(run_on, told):
    def view(request, name):
        return HttpResponse(described(SERVING.get()))

    answer = run_on(one(view))
    assert answer.body == b"GET /v1/items/<slug:name>/"
    assert list(answer.timing) == ["loop"]


def test_setting_leaves_the_header_out(run_on, told):
    async def view(request, name):
        return HttpResponse(described(SERVING.get()))

    answer = run_on(one(view, OFFLOOP_SERVER_TIMING=False))
    assert (answer.body, answer.timing) == (b"GET /v1/items/<slug:name>/", {})


def test_under_wsgi_nothing_is_done():
    def get_response(request):
        assert SERVING.get() is None
        return HttpResponse(content_type="text/plain")

    async def get_response_later(request):
        await asyncio.sleep(0)

    request = RequestFactory().get("/")
    response = offloop_middleware(get_response)(request)
    assert (response.status_code, list(response.headers)) == (200, ["Content-Type"])
    assert not iscoroutinefunction(offloop_middleware(get_response))
    assert iscoroutinefunction(offloop_middleware(get_response_later))
    assert (offloop_middleware.sync_capable, offloop_middleware.async_capable) == (True, True)


def test_synchronous_middleware_further_in_changes_nothing(run_on, told):
    async def view(request, name):
        await offloop.to_thread(abs, -1)
        told.wait("view")
        return HttpResponse(described(SERVING.get()), headers={"Server-Timing": "db;dur=1;desc=q"})

    answer = run_on(one(view, f"{__name__}.only_synchronous"))
    assert answer.body == b"GET /v1/items/<slug:name>/"
    assert list(answer.timing) == ["db", "loop", "threads"]
    assert answer.timing["loop"][0] > 0
    assert told.wait("view", is_over=True).request == "GET /v1/items/<slug:name>/"
    assert SERVING.get() is None


@pytest.mark.parametrize("further_in", [(), (f"{__name__}.only_synchronous",)])
def test_pieces_of_a_stream_are_made_for_their_request(run_on, told, further_in):
    async def pieces():
        yield "one "
        told.wait("pieces")
        yield described(SERVING.get())

    async def view(request, name):
        return StreamingHttpResponse(pieces())

    answer = run_on(one(view, *further_in))
    assert answer.body == b"one GET /v1/items/<slug:name>/"
    assert told.wait("pieces", is_over=True).request == "GET /v1/items/<slug:name>/"


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_methods_are_noted(run_on, told, method):
    async def view(request, name):
        return HttpResponse(described(SERVING.get()))

    async def main():
        urls = (path("items/", view, {"name": None}),)
        with override_settings(ROOT_URLCONF=urls, MIDDLEWARE=[NAME]):
            async with served(get_asgi_application()) as port:
                return await ask(port, "/items/", method)

    assert run_on(main()).body == f"{method} /items/".encode()
