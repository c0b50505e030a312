"""What tests of the watch share: loops, what is told of them, and facts asked for by a thread.

Tests of frameworks are collected only where these are installed; what is left out is named at the
end.
"""

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from heard import THRESHOLD_SECONDS, Heard

import offloop
from offloop._watch.facts import Facts, facts_of
from peers import is_installed

NEEDED_PACKAGES = {"test_requests.py": ("aiohttp", "fastapi", "httpx", "starlette", "uvicorn")}
LEFT_OUT = {
    test: [package for package in packages if not is_installed(package)]
    for test, packages in NEEDED_PACKAGES.items()
}
collect_ignore = [test for test, absent in LEFT_OUT.items() if absent]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "offloop": offloop.new_event_loop,
}
if is_installed("uvloop"):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in the last lines which tests did not run, and what to install for them."""
    for test in collect_ignore:
        absent = " and ".join(LEFT_OUT[test])
        terminalreporter.write_line(f"not run: tests/watch/{test}: {absent} cannot be imported")


@pytest.fixture(params=LOOPS)
def make_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Make a loop: the standard one, ours, or uvloop's."""
    return LOOPS[request.param]


@pytest.fixture
def loop(make_loop):
    """A loop that does not run yet, closed at the end of the test."""
    loop = make_loop()
    yield loop
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop.close()


@pytest.fixture
def ask() -> Callable[..., Facts]:
    """Have another thread ask for the facts of what this thread is in the middle of."""

    def ask(called: object, context: Any = None, variables: tuple = ()) -> Facts:
        asked: list[Facts] = []
        ident = threading.get_ident()

        def look() -> None:
            asked.append(facts_of(called, context, ident, variables))

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        return asked[0]

    return ask


@pytest.fixture
def no_collection():
    """Circles stay until the end of the test."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def heard() -> Iterator[Heard]:
    """What the watch tells; it is on for as long as the test lasts."""
    heard = Heard()
    with offloop.watch(THRESHOLD_SECONDS, heard, words=False, stalls_per_minute=1_000):
        yield heard


@pytest.fixture(params=LOOPS)
def any_loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of each kind that does not run yet."""
    loop = LOOPS[request.param]()
    yield loop
    loop.close()


@pytest.fixture
def our_loop() -> Iterator[offloop.EventLoop]:
    """A loop of ours."""
    loop = offloop.new_event_loop()
    yield loop
    loop.close()
