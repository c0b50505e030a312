"""The loop's time under tools that replace the clock: freezegun, time-machine, mocks."""

import asyncio
import sys
import time
import traceback
from unittest import mock

import freezegun
import pytest
import time_machine

import offloop
from compared import compare, seen_on
from steps import rounds

pytestmark = pytest.mark.quick

MIDNIGHT = "2020-01-01"
MIDNIGHT_SECONDS = 1577836800.0
CLOCK = [time.monotonic]
"""The real one, where freezegun does not find it."""


def is_real(loop):
    """Whether the loop's time is that of the system."""
    before = CLOCK[0]()
    return before <= loop.time() <= CLOCK[0]()


def test_frozen_time_is_the_loops_and_moves_its_timers():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        seen.append(is_real(loop))
        with freezegun.freeze_time(MIDNIGHT) as frozen:
            seen.append(loop.time())
            for late in (5, 1, 300):
                timer = loop.call_later(late, seen.append, late)
                seen.append(timer.when() - loop.time())
            await rounds(3)
            frozen.tick(2)
            await rounds(3)
            frozen.tick(10)
            await rounds(3)
            seen.append(loop.time() - MIDNIGHT_SECONDS)
        timer.cancel()
        seen.append(is_real(loop))
        await asyncio.sleep(0.001)
        seen.append(is_real(loop))

    expected = [True, MIDNIGHT_SECONDS, 5.0, 1.0, 300.0, 1, 5, 12.0, True, True]
    assert compare(scenario) == expected


def test_loop_made_in_frozen_time_begins_with_it(make_loop):
    with freezegun.freeze_time(MIDNIGHT):
        loop = make_loop()
        assert loop.time() == MIDNIGHT_SECONDS
    assert is_real(loop)
    loop.close()


@pytest.fixture
def unchanged_classes():
    """Takes away the attributes that freezegun leaves behind in classes."""
    yield
    for kind in (asyncio.SelectorEventLoop, offloop.EventLoop):
        if "time" in vars(kind):
            del kind.time


@pytest.mark.usefixtures("unchanged_classes")
def test_real_time_may_be_asked_for_while_the_rest_is_frozen(make_loop):
    """The class of the loop that the policy makes gets another ``time``: ours, or another."""

    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        with (
            mock.patch("asyncio.new_event_loop", make_loop),
            freezegun.freeze_time(MIDNIGHT, real_asyncio=True),
        ):
            seen.append((is_real(loop), time.monotonic()))
            await asyncio.sleep(0.001)
        with freezegun.freeze_time(MIDNIGHT, real_asyncio=True):
            seen.append((is_real(loop), time.monotonic()))
            await asyncio.sleep(0.001)
        return [*seen, is_real(loop)]

    loop = make_loop()
    frozen = (True, MIDNIGHT_SECONDS)
    assert loop.run_until_complete(main()) == [frozen, frozen, True]
    loop.close()


def test_clock_is_asked_from_as_deep_a_stack(make_loop):
    """freezegun looks five callers up for a module that it leaves alone, such as ``threading``."""

    def ask():
        loop.time()
        loop.call_later(1e6, abs, 1).cancel()
        loop.call_soon(loop.stop)

    def monotonic():
        names = [frame.f_code.co_name for frame, _ in traceback.walk_stack(sys._getframe(1))]
        ends = [names.index(name) for name in ("ask", "run_forever") if name in names]
        depths.append((names[0], min(ends)))
        return CLOCK[0]()

    depths = []
    loop = make_loop()
    with mock.patch("time.monotonic", monotonic):
        loop.call_soon(ask)
        loop.run_forever()
    loop.close()
    assert set(depths) == {("time", 1), ("time", 2)}
    assert depths[depths.index(("time", 1)) + 1] == ("time", 2)


def test_time_machine_leaves_the_loop_alone_as_it_does_the_standard_one():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        with time_machine.travel(0, tick=False):
            before = loop.time()
            seen.append((time.time(), is_real(loop)))
            await asyncio.sleep(0.001)
            seen.append(loop.time() - before >= 0.001)

    assert compare(scenario) == [(0.0, True), True]


PATCHES = {
    "monotonic": lambda loop: mock.patch("time.monotonic", return_value=7.0),
    "module": lambda loop: mock.patch(
        "asyncio.base_events.time", mock.Mock(**{"monotonic.return_value": 7.0})
    ),
    "base class": lambda loop: mock.patch.object(asyncio.BaseEventLoop, "time", return_value=7.0),
    "standard class": lambda loop: mock.patch.object(
        asyncio.SelectorEventLoop, "time", return_value=7.0
    ),
    "own class": lambda loop: mock.patch.object(type(loop), "time", return_value=7.0),
    "loop": lambda loop: mock.patch.object(loop, "time", return_value=7.0),
}


@pytest.mark.parametrize("name", PATCHES)
def test_clock_may_be_patched_and_given_back_in_the_middle_of_a_callback(name):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        seen.append(is_real(loop))
        with PATCHES[name](loop):
            seen.append(loop.time())
            seen.append(loop.call_later(2, abs, 1).when())
            loop.call_at(6.0, seen.append, "due")
            await rounds(3)
        seen.append(is_real(loop))
        timer = loop.call_later(2, abs, 1)
        seen.append(1 < timer.when() - CLOCK[0]() < 3)
        timer.cancel()

    assert compare(scenario) == [True, 7.0, 9.0, "due", True, True]


def test_lateness_by_a_clock_of_others_is_not_counted(our_loop):
    async def main():
        with freezegun.freeze_time(MIDNIGHT) as frozen:
            our_loop.call_later(5, abs, 1)
            frozen.tick(1000)
            await rounds(3)

    our_loop.run_until_complete(main())
    statistics = our_loop.statistics()
    assert statistics.timers_fired == 1
    assert statistics.timer_lag.count == 0


def test_time_that_raises_ends_the_run_as_on_the_standard_loop(make_loop):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        with mock.patch("time.monotonic", mock.Mock(side_effect=OSError("no clock"))):
            for ask in (loop.time, lambda: loop.call_later(1, abs, 1)):
                with pytest.raises(OSError, match="no clock") as raised:
                    ask()
                seen.append(str(raised.value))

    assert seen_on(make_loop, scenario) == ["no clock", "no clock"]
