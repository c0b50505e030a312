"""Loops that tell their rounds alone: whose time a stall is."""

import asyncio
import threading
import time

import pytest
from heard import Heard

import offloop
from gates import PATIENCE_SECONDS
from peers import is_installed

FOREIGN = {"asyncio": asyncio.SelectorEventLoop}
if is_installed("uvloop"):
    import uvloop

    FOREIGN["uvloop"] = uvloop.new_event_loop

LONG_SECONDS = 0.2
"""A threshold that is long beside what a busy machine keeps the watchdog from."""


@pytest.fixture(params=FOREIGN)
def foreign_loop(request):
    loop = FOREIGN[request.param]()
    yield loop
    loop.close()


class Told(Heard):
    """Sets an event once a stall was told while it lasts."""

    def __init__(self):
        super().__init__()
        self.is_found = threading.Event()

    def __call__(self, stall):
        super().__call__(stall)
        self.is_found.set()

    def named(self):
        """The stalls whose code is known, once one is over."""
        self.wait_over()
        named = [stall for stall in self.stalls if stall.culprit is not None]
        for stall in self.stalls:
            # A machine that is too busy keeps the watchdog from naming a line.
            unread = (offloop.StallCause.STARVED, offloop.StallCause.UNKNOWN)
            assert stall in named or stall.cause in unread
        return named


@pytest.fixture
def told():
    told = Told()
    with offloop.watch(LONG_SECONDS, told, words=False):
        yield told


def run_in_one_round(loop, *callbacks):
    async def main():
        for callback in callbacks:
            loop.call_soon(callback)
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_callback_that_runs_at_the_end_of_a_long_round_is_not_blamed_alone(foreign_loop, told):
    def guilty():
        threading.Event().wait(0.9 * LONG_SECONDS)

    def innocent():
        until = time.monotonic() + PATIENCE_SECONDS
        while not told.is_found.is_set() and time.monotonic() < until:
            pass

    run_in_one_round(foreign_loop, guilty, innocent)
    for stall in told.named():
        assert stall.culprit.function == innocent.__qualname__
        assert stall.is_round
        assert "to_process" not in (stall.advice or "")


def test_callback_that_waits_at_the_end_of_a_long_round_is_one_of_many(foreign_loop, told):
    def guilty():
        until = time.monotonic() + 0.9 * LONG_SECONDS
        while time.monotonic() < until:
            pass

    def innocent():
        told.is_found.wait(PATIENCE_SECONDS)

    run_in_one_round(foreign_loop, guilty, innocent)
    assert all(stall.is_round for stall in told.named())


def test_callback_that_runs_all_along_is_blamed_beside_short_ones(foreign_loop, told):
    def short():
        pass

    def blocks():
        until = time.monotonic() + PATIENCE_SECONDS
        while not told.is_found.is_set() and time.monotonic() < until:
            pass

    run_in_one_round(foreign_loop, short, blocks, short)
    for stall in told.named():
        assert (stall.culprit.function, stall.is_round) == (blocks.__qualname__, False)
