"""Loops for tests of the event loop: ours, and the standard one as the measure.

What the standard library defines is asserted on both loops, so that a test that demands something
else than asyncio's own behaviour fails as well.
"""

import asyncio
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import offloop


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
