"""Loops that are watched: ours, the standard one, and uvloop where it is installed."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from heard import THRESHOLD_SECONDS, Heard

import offloop
from peers import is_installed

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "offloop": offloop.new_event_loop,
    "asyncio": asyncio.SelectorEventLoop,
}
if is_installed("uvloop"):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


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
