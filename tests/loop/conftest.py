"""Loops for tests of the event loop: ours, and the standard one as the measure.

What the standard library defines is asserted on both loops, so that a test that demands something
else than asyncio's own behaviour fails as well.

Tests of database drivers are collected only where their servers are installed, unless
``OFFLOOP_TEST_SERVERS=required`` says that they must be, and those of frameworks only where these
are; what is left out is named at the end.
"""

import asyncio
import os
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import offloop
from peers import is_installed
from servers import what_is_missing

NEEDED_SERVERS = {"test_postgresql.py": "postgres", "test_redis.py": "redis-server"}
LEFT_OUT = {
    test: what_is_missing(server)
    for test, server in NEEDED_SERVERS.items()
    if what_is_missing(server) and os.environ.get("OFFLOOP_TEST_SERVERS") != "required"
}
NEEDED_PACKAGES = {
    "test_frameworks.py": ("aiohttp", "fastapi", "httpx", "websockets"),
    "test_postgresql.py": ("asyncpg", "psycopg"),
    "test_redis.py": ("redis",),
}
for test, packages in NEEDED_PACKAGES.items():
    absent = [package for package in packages if not is_installed(package)]
    if absent:
        LEFT_OUT[test] = f"{' and '.join(absent)} cannot be imported here"
collect_ignore = list(LEFT_OUT)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in the last lines which tests did not run, and what to install for them."""
    for test, reason in LEFT_OUT.items():
        terminalreporter.write_line(f"not run: tests/loop/{test}: {reason}")


@pytest.fixture(params=["asyncio", "offloop"])
def make_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Make a loop: the standard one, or ours."""
    return asyncio.SelectorEventLoop if request.param == "asyncio" else offloop.new_event_loop


@pytest.fixture
def loop(make_loop):
    """A loop that does not run yet, closed at the end of the test."""
    loop = make_loop()
    yield loop
    with warnings.catch_warnings():
        # A test may end in the middle of a connection.
        warnings.simplefilter("ignore", ResourceWarning)
        loop.close()


@pytest.fixture
def our_loop():
    """A loop of ours, for what has no measure in the standard one."""
    loop = offloop.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def run(make_loop) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine to its end on the standard loop, and on ours."""

    def run_coroutine(main: Coroutine[Any, Any, Any], *, debug: bool = False) -> Any:
        with asyncio.Runner(loop_factory=make_loop, debug=debug) as runner:
            return runner.run(main)

    return run_coroutine
