"""Handles: they look, compare, cancel and vanish as asyncio's own."""

import asyncio
import contextvars
import functools
import gc
import re
import sys
import tracemalloc
import weakref

import pytest

import offloop
from steps import forget, turn

pytestmark = pytest.mark.quick

CYCLES = 10_000
LOOPS = (asyncio.SelectorEventLoop, offloop.EventLoop)


class Target:
    """Something with a method to call, and with an identity to look for."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def method(self, *arguments) -> None:
        """Note the call."""
        self.calls.append(arguments)


def test_handles_are_instances_of_the_standard_classes(loop):
    soon, later = loop.call_soon(print), loop.call_later(60, print)
    threadsafe, at = loop.call_soon_threadsafe(print), loop.call_at(1e9, print)
    for handle in (soon, threadsafe, later, at):
        assert isinstance(handle, asyncio.Handle)
        assert handle.cancelled() is False
    assert [isinstance(each, asyncio.TimerHandle) for each in (soon, threadsafe)] == [False] * 2
    assert [isinstance(each, asyncio.TimerHandle) for each in (later, at)] == [True] * 2
    assert at.when() == 1e9
    assert (later._scheduled, soon._loop is loop) == (True, True)
    for handle in (soon, threadsafe, later, at):
        handle.cancel()
    turn(loop)


def texts_of_handles(loop: asyncio.AbstractEventLoop) -> list[str]:
    """The texts of handles in many states, with numbers and addresses made equal."""
    target = Target()
    callbacks = [
        (print, ()),
        (print, ("one", 2)),
        (target.method, (1, 2, 3, 4, 5)),
        (functools.partial(target.method, 1, key=2), ()),
        (lambda: None, ()),
        (texts_of_handles, ("a text that is long " * 20,)),
    ]
    handles = []
    for callback, arguments in callbacks:
        for schedule in (
            loop.call_soon,
            loop.call_soon_threadsafe,
            functools.partial(loop.call_later, 60),
            functools.partial(loop.call_at, 10.5),
        ):
            handles.append(schedule(callback, *arguments))
            cancelled = schedule(callback, *arguments)
            cancelled.cancel()
            handles.append(cancelled)
    texts = [repr(handle) for handle in handles]
    for handle in handles:
        handle.cancel()
    texts += [repr(handle) for handle in handles]
    return [re.sub(r"0x[0-9a-f]+", "0x", re.sub(r"when=\d+\.\d+", "when=", t)) for t in texts]


@pytest.mark.parametrize("debug", [False, True])
def test_texts_of_handles_are_the_standard_ones(debug):
    texts = []
    for make in LOOPS:
        loop = make()
        loop.set_debug(debug)
        texts.append(texts_of_handles(loop))
        loop.close()
    assert texts[1] == texts[0]


def test_what_handles_hold_can_be_looked_at(loop):
    target = Target()
    handle = loop.call_soon(target.method, 1, 2, 3, 4)
    assert (handle._callback, handle._args) == (target.method, (1, 2, 3, 4))
    assert (handle._cancelled, handle._source_traceback) == (False, None)
    assert loop.call_soon(print)._args == ()
    assert handle._context is not None
    if sys.version_info >= (3, 12):
        assert handle.get_context() is handle._context
    handle.cancel()
    assert (handle._callback, handle._args, handle.cancelled()) == (None, None, True)


def test_cancelled_handles_do_not_run_whenever_they_are_cancelled(loop):
    seen = []
    handles = {}

    def cancel_the_others(name):
        seen.append(name)
        for handle in handles.values():
            handle.cancel()
            handle.cancel()

    handles["first"] = loop.call_soon(cancel_the_others, "first")
    handles["second"] = loop.call_soon(seen.append, "second")
    handles["timer"] = loop.call_later(0, seen.append, "timer")
    handles["early"] = loop.call_soon(seen.append, "early")
    handles["early"].cancel()
    turn(loop)
    turn(loop)
    assert seen == ["first"]
    assert all(handle.cancelled() for handle in handles.values())


def test_timer_cancelled_after_it_ran_changes_nothing(loop):
    timer = loop.call_later(0, loop.stop)
    loop.run_forever()
    timer.cancel()
    assert timer.cancelled()
    assert loop._timer_cancelled_count == 0
    turn(loop)


def test_timers_compare_by_their_time():
    for make in LOOPS:
        loop = make()
        early, late = loop.call_at(1.0, print), loop.call_at(2.0, print)
        same = loop.call_at(1.0, print)
        assert (early < late, early <= late, early > late, early >= late) == (1, 1, 0, 0)
        assert (early == same, early != same, early <= same, early >= same) == (1, 0, 1, 1)
        assert early != loop.call_at(1.0, print, "other")
        assert hash(early) == hash(1.0) == hash(same)
        assert sorted([late, early]) == [early, late]
        assert early != 1.0
        with pytest.raises(TypeError, match="not supported between instances"):
            sorted([early, 1.0])
        loop.close()


def test_handles_can_be_referred_to_weakly_and_vanish_when_they_have_run(loop):
    references = [weakref.ref(loop.call_soon(int)), weakref.ref(loop.call_later(0, int))]
    assert all(reference() is not None for reference in references)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert [reference() for reference in references] == [None, None]


def schedule_in_every_way(loop, target: Target) -> None:
    """One cycle: every way to schedule, with few and many arguments, run and cancelled."""
    call = target.method
    context = contextvars.copy_context()
    loop.call_soon(call)
    loop.call_soon(call, 1, 2, 3, 4, 5, context=context)
    loop.call_soon(callback=call)
    loop.call_soon_threadsafe(call, target)
    loop.call_later(0, call, target)
    loop.call_at(0, call, *range(6))
    for handle in (loop.call_soon(call, target), loop.call_later(60, call, target)):
        handle.cancel()


def test_nothing_is_left_of_ten_thousand_cycles(our_loop):
    target = Target()
    target.method = lambda *arguments: None

    def cycles(count):
        for _ in range(count):
            schedule_in_every_way(our_loop, target)
            turn(our_loop)
        turn(our_loop)

    cycles(200)
    gc.collect()
    before = [sys.getrefcount(thing) for thing in (target, target.method, our_loop, None)]
    tracemalloc.start()
    try:
        cycles(50)
        held = tracemalloc.get_traced_memory()[0]
        cycles(CYCLES)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - held
    finally:
        tracemalloc.stop()
    after = [sys.getrefcount(thing) for thing in (target, target.method, our_loop, None)]
    assert after[:3] == before[:3]
    # None is immortal from Python 3.12 on; before that, a leak of one a cycle would show.
    assert abs(after[3] - before[3]) < CYCLES
    assert grown < 50_000


def test_cancelled_timers_are_swept_out_of_a_large_heap(our_loop):
    kept = our_loop.call_later(3600, print)
    for _ in range(10):
        for _ in range(1000):
            our_loop.call_later(3600, print).cancel()
        turn(our_loop)
    assert len(our_loop._scheduled) < 1000
    kept.cancel()


class Owner:
    """Keeps the timer that calls it, as most users of timers do."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.timer = loop.call_later(3600, self.on_time)
        self.soon = loop.call_soon(self.on_time)

    def on_time(self) -> None:
        """Never called."""
        raise AssertionError("an hour has not passed")


def test_owner_of_a_pending_timer_vanishes_with_the_closed_loop(make_loop):
    loop = make_loop()
    owner = weakref.ref(Owner(loop))
    loop.close()
    del loop
    gc.collect()
    assert owner() is None


def test_loop_that_is_not_closed_vanishes_with_its_timers(make_loop):
    loop = make_loop()
    references = weakref.ref(Owner(loop)), weakref.ref(loop)
    held = [loop]
    del loop
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        forget(held)
    assert [reference() for reference in references] == [None, None]
