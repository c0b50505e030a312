"""A test that blocks its event loop fails, in the phase in which it did, with the line to blame."""

import pytest

from peers import NEEDS_UVLOOP

USUAL = """
    import asyncio, time
    import pytest

    pytestmark = pytest.mark.asyncio

    def load():
        time.sleep(0.3)

    async def test_blocks():
        load()

    async def test_waits():
        await asyncio.sleep(0.3)

    async def test_blocks_in_a_thread():
        await asyncio.to_thread(time.sleep, 0.3)

    def test_has_no_loop():
        time.sleep(0.3)
"""


def test_the_test_that_blocks_fails_with_the_line_and_no_other_one_does(suite):
    ran = suite(USUAL)
    assert ran.failed() == {"test_blocks": "call"}
    _, text = ran.outcome("test_blocks")
    assert text.startswith("offloop: event loop blocked for ")
    assert " at test_it.py:8 in load\n" in text
    assert "time.sleep(0.3)" in text
    assert "cure     await offloop.to_thread(load)" in text
    assert ran.status == 1


@pytest.mark.quick
def test_nothing_is_measured_and_offloop_not_imported_unless_asked_for(suite):
    source = """
        import sys, time
        import pytest

        @pytest.mark.asyncio
        async def test_blocks():
            time.sleep(0.3)
            assert "offloop" not in sys.modules
    """
    ran = suite(source, limit=None)
    assert (ran.status, ran.failed()) == (0, {})
    assert "offloop" not in ran.text.split("plugins:", 1)[-1].split("\n", 1)[1]


def test_the_installed_plugin_is_found_by_pytest(suite):
    ran = suite(USUAL, "-p", "no:aiohttp", env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": ""}, plugins=())
    assert ran.failed() == {"test_blocks": "call"}


def test_each_phase_answers_for_what_began_in_it(suite):
    source = """
        import time
        import pytest, pytest_asyncio

        @pytest_asyncio.fixture
        async def slow_to_make():
            time.sleep(0.3)
            yield

        @pytest_asyncio.fixture
        async def slow_to_end():
            yield
            time.sleep(0.3)

        @pytest.mark.asyncio
        async def test_set_up(slow_to_make): ...

        @pytest.mark.asyncio
        async def test_teardown(slow_to_end): ...

        @pytest.mark.asyncio
        async def test_after(): ...
    """
    ran = suite(source)
    assert ran.failed() == {"test_set_up": "setup", "test_teardown": "teardown"}


def test_a_loop_of_a_module_has_its_stalls_told_to_the_test_that_began_them(suite):
    source = """
        import asyncio, time
        import pytest

        pytestmark = pytest.mark.asyncio(loop_scope="module")

        async def test_before():
            await asyncio.sleep(0)

        async def test_blocks():
            time.sleep(0.3)

        async def test_after():
            await asyncio.sleep(0)
    """
    assert suite(source).failed() == {"test_blocks": "call"}


LOOPS = {
    "asyncio": "asyncio.DefaultEventLoopPolicy",
    "offloop": "offloop.EventLoopPolicy",
    "uvloop": "uvloop.EventLoopPolicy",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=NEEDS_UVLOOP if name == "uvloop" else ()) for name in LOOPS]
)
def test_each_loop_is_measured_also_where_a_test_runs_it_by_itself(suite, name):
    source = f"""
        import asyncio, time
        import {name}

        async def waits():
            await asyncio.sleep(0.3)

        async def blocks():
            await asyncio.sleep(0)
            time.sleep(0.3)

        def run(main):
            factory = getattr({name}, "new_event_loop")
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(main())

        def test_waits():
            run(waits)

        def test_blocks():
            run(blocks)
            run(waits)
    """
    ran = suite(source, plugins=())
    assert ran.failed() == {"test_blocks": "call"}
    assert "test_it.py:10 in blocks" in ran.outcome("test_blocks")[1]


RUNNERS = {
    "strict": (("asyncio",), "", "@pytest.mark.asyncio\n"),
    "auto": (("asyncio",), "asyncio_mode = auto", ""),
    "anyio": (("anyio",), "", "@pytest.mark.anyio\n"),
    "aiohttp": (("asyncio", "aiohttp"), "asyncio_mode = auto", ""),
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_each_way_to_run_async_tests_is_measured(suite, runner):
    plugins, ini, mark = RUNNERS[runner]
    source = f"""
import asyncio, time
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"

{mark}async def test_blocks():
    time.sleep(0.3)

{mark}async def test_waits():
    await asyncio.sleep(0.3)
"""
    ran = suite(source, plugins=plugins, ini=ini)
    assert ran.failed() == {"test_blocks": "call"}, ran.text


def test_handlers_of_aiohttps_test_client_are_measured(suite):
    source = """
        import time
        from aiohttp import web

        async def handle(request):
            time.sleep(0.3)
            return web.Response(text="done")

        async def test_handler(aiohttp_client):
            app = web.Application()
            app.router.add_get("/", handle)
            client = await aiohttp_client(app)
            assert (await client.get("/")).status == 200
    """
    plugins = ("asyncio", "aiohttp")
    ran = suite(source, plugins=plugins, ini="asyncio_mode = auto")
    assert ran.failed() == {"test_handler": "call"}, ran.text
    assert "test_it.py:6 in handle" in ran.outcome("test_handler")[1]


@pytest.mark.needs("django")
def test_async_views_of_django_are_measured(suite):
    source = """
        import asyncio, time
        from django.conf import settings
        from django.http import HttpResponse
        from django.urls import path

        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")

        async def slow(request):
            time.sleep(0.3)
            return HttpResponse("slow")

        async def quick(request):
            await asyncio.sleep(0.3)
            return HttpResponse("quick")

        urlpatterns = [path("slow", slow), path("quick", quick)]

        async def test_slow(async_client):
            assert (await async_client.get("/slow")).content == b"slow"

        async def test_quick(async_client):
            assert (await async_client.get("/quick")).content == b"quick"

        def test_slow_from_a_client_that_blocks(client):
            assert client.get("/slow").content == b"slow"
    """
    plugins = ("asyncio", "django")
    ran = suite(source, plugins=plugins, ini="asyncio_mode = auto")
    assert ran.failed() == {"test_slow": "call", "test_slow_from_a_client_that_blocks": "call"}


def test_unittests_own_async_tests_are_measured(suite):
    source = """
        import asyncio, time, unittest

        class TestIt(unittest.IsolatedAsyncioTestCase):
            async def test_blocks(self):
                time.sleep(0.3)

            async def test_waits(self):
                await asyncio.sleep(0.3)
    """
    assert suite(source, plugins=()).failed() == {"TestIt::test_blocks": "call"}


def test_a_loop_in_another_thread_is_measured_and_its_thread_named(suite):
    source = """
        import asyncio, threading, time

        async def blocks():
            time.sleep(0.3)

        def test_blocks():
            thread = threading.Thread(target=asyncio.run, args=(blocks(),), name="server")
            thread.start()
            thread.join()
    """
    when, text = suite(source, plugins=()).outcome("test_blocks")
    assert when == "call"
    assert "event loop in thread server blocked for " in text


def test_a_failed_test_stays_what_it_is_and_its_stalls_are_in_the_report(suite):
    source = """
        import time, unittest
        import pytest

        @pytest.mark.asyncio
        async def test_wrong():
            time.sleep(0.3)
            assert 1 == 2

        @pytest.mark.xfail(strict=True)
        @pytest.mark.asyncio
        async def test_known():
            time.sleep(0.3)

        @pytest.mark.asyncio
        async def test_left_out():
            time.sleep(0.3)
            raise unittest.SkipTest("not here")
    """
    ran = suite(source)
    when, text = ran.outcome("test_wrong")
    assert when == "call"
    assert "assert 1 == 2" in text
    assert "offloop: event loop blocked for " in text
    assert ran.failed() == {"test_wrong": "call"}
    assert ran.outcome("test_known")[0] == "skipped"


def test_a_mark_alone_measures_its_test_and_no_other_one(suite):
    source = """
        import time
        import pytest

        pytestmark = pytest.mark.asyncio

        async def test_free():
            time.sleep(0.3)

        @pytest.mark.offloop
        async def test_held():
            time.sleep(0.3)

        @pytest.mark.offloop(max_stall="2s")
        async def test_held_to_more():
            time.sleep(0.3)
    """
    assert suite(source, limit=None).failed() == {"test_held": "call"}


def test_a_mark_gives_its_test_another_limit_or_none(suite):
    source = """
        import time
        import pytest

        pytestmark = pytest.mark.asyncio

        @pytest.mark.offloop(max_stall="off")
        async def test_left_alone():
            time.sleep(0.3)

        @pytest.mark.offloop(max_stall="2s")
        async def test_held_to_more():
            time.sleep(0.3)

        @pytest.mark.offloop(allow="stall")
        async def test_allowed():
            time.sleep(0.3)

        async def test_allowed_by_a_comment():
            time.sleep(0.3)  # offloop: allow (what this test is about)

        async def test_held():
            time.sleep(0.3)
    """
    assert suite(source).failed() == {"test_held": "call"}


def test_an_ini_value_measures_the_run(suite):
    ran = suite(USUAL, limit=None, ini="offloop_max_stall = 100ms")
    assert ran.failed() == {"test_blocks": "call"}
    assert (
        suite(USUAL, limit=None, ini="offloop_max_stall = 100ms\noffloop_allow = stall").status == 0
    )


def test_a_test_may_ask_for_what_it_expects(suite):
    source = """
        import asyncio, time
        import pytest

        pytestmark = pytest.mark.asyncio

        async def test_expected(offloop_gate):
            with offloop_gate.expect("stall") as found:
                time.sleep(0.3)
                await asyncio.sleep(0.01)
            (stall,) = found
            assert stall.place.function.endswith("test_expected")
            assert stall.seconds > 0.2

        async def test_expected_another_thing(offloop_gate):
            with offloop_gate.expect("exception") as found:
                time.sleep(0.3)
                await asyncio.sleep(0.01)
            assert found == []

        async def test_after_the_block(offloop_gate):
            with offloop_gate.expect():
                await asyncio.sleep(0.01)
            time.sleep(0.3)
    """
    ran = suite(source)
    assert ran.failed() == {"test_expected_another_thing": "call", "test_after_the_block": "call"}


def test_what_is_not_measured_is_said(suite):
    source = """
        import asyncio
        import pytest
        import offloop

        @pytest.mark.asyncio
        async def test_turns_the_watch_off():
            offloop.watch.stop()

        @pytest.mark.asyncio
        async def test_after():
            import time
            time.sleep(0.3)
    """
    ran = suite(source, "--offloop-json=gate.json")
    assert ran.failed() == {"test_after": "call"}
    assert "not measured:" in ran.text
    (said,) = ran.json()["unmeasured"]
    assert said == {
        "test": "test_it.py::test_turns_the_watch_off",
        "phase": "call",
        "reason": "the test has turned the watch on or off itself",
    }


@pytest.mark.parametrize(
    ("options", "ini", "said"),
    [
        (["--offloop-max-stall=50"], "", "'50' is no time; write 50ms, 0.2s or off"),
        (["--offloop-max-stall=0.1ms"], "", "'0.1ms' is not from 1ms to 3600s"),
        ([], "offloop_max_stall = soon", "'soon' is no time; write 50ms, 0.2s or off"),
        (["--offloop-max-stall=50ms", "--offloop-allow=tsk"], "", "'tsk' is not among stall, task"),
        (["--offloop-json=x"], "", "--offloop-json needs --offloop-max-stall"),
        (
            ["--offloop-max-stall=50ms", "--offloop-ratchet=none.toml"],
            "",
            "none.toml: No such file or directory",
        ),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(suite, options, ini, said):
    ran = suite(USUAL, *options, limit=None, ini=ini)
    assert ran.status == 4
    (line,) = [line for line in ran.text.splitlines() if line.startswith("ERROR:")]
    assert said in line
    assert "Traceback" not in ran.text


def test_a_wrong_mark_is_refused(suite):
    source = """
        import pytest

        @pytest.mark.offloop(max_stal="50ms")
        def test_it(): ...
    """
    ran = suite(source)
    assert ran.status == 4
    assert "test_it.py::test_it: takes max_stall=... and allow=(...), not max_stal" in ran.text
