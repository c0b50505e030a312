"""What ``when()`` of a timer returns, for every kind of number that is given.

``call_at`` keeps what it was given, ``call_later`` adds it to the loop's time. Numbers that the
standard loop takes first and fails with as it runs are refused here at once, or are a time that
never comes; those stand apart below.
"""

import asyncio
import decimal
import fractions
import math

import numpy
import pytest

import offloop
from compared import compare


class Whole(int):
    """An integer of a program's own."""


class Float(float):
    """A float of a program's own."""


TIMES = {
    "int": 10**12,
    "zero": 0,
    "negative": -5,
    "large": 10**200,
    "bool": True,
    "float": 1e12,
    "infinity": math.inf,
    "fraction": fractions.Fraction(10**15, 7),
    "class of int": Whole(10**12),
    "class of float": Float(1e12),
    "numpy's float": numpy.float64(1e12),
    "numpy's short float": numpy.float32(1e12),
    "numpy's int": numpy.int64(10**12),
}


@pytest.mark.parametrize("when", TIMES.values(), ids=TIMES)
def test_time_of_a_timer_is_what_was_given(when):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        timer = loop.call_at(when, print)
        assert timer.when() == timer._when
        seen.append((type(timer.when()), timer.when(), timer.when() == when))
        seen.append((hash(timer) == hash(when), repr(timer).split(" ")[1]))
        equal, later = loop.call_at(when, print), loop.call_at(when + 1, print)
        seen.append((timer == equal, timer < later, timer >= later, timer <= equal))
        for each in (timer, equal, later):
            each.cancel()
        seen.append(timer.when() == when)

    compare(scenario)


DELAYS = {
    **{name: when for name, when in TIMES.items() if name != "large"},
    "too large": 10**400,
    "decimal": decimal.Decimal("1000"),
    "text": "text",
    "nothing": None,
    "object": Ellipsis,
}


@pytest.mark.parametrize("delay", DELAYS.values(), ids=DELAYS)
@pytest.mark.parametrize("clock", [None, lambda: 5, lambda: fractions.Fraction(1, 3)])
def test_time_after_a_delay_is_their_sum(delay, clock):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        if clock is not None:
            loop.time = clock
        before = loop.time()
        try:
            timer = loop.call_later(delay, print)
        except Exception as error:
            seen.append((type(error), str(error)))
            return
        timer.cancel()
        if clock is None:
            is_sum = before + delay <= timer.when() <= loop.time() + delay
            seen.append((type(timer.when()), is_sum))
        else:
            seen.append((type(timer.when()), timer.when()))

    compare(scenario)


def test_overridden_call_at_gets_the_same_time():
    def scenario_on(base):
        class Loop(base):
            def call_at(self, when, callback, *args, context=None):
                seen.append((type(when), when))
                return super().call_at(when, callback, *args, context=context)

        seen = []
        loop = Loop()
        loop.time = lambda: 5
        for delay in (1, 1.5, fractions.Fraction(1, 3)):
            loop.call_later(delay, print).cancel()
        loop.close()
        return seen

    ours = scenario_on(offloop.EventLoop)
    assert ours == scenario_on(asyncio.SelectorEventLoop)
    assert ours[0] == (int, 6)


def test_timers_of_all_kinds_of_numbers_fire_in_order():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        past = [fractions.Fraction(1, 3), 0, -1, -math.inf, True, numpy.float64(0.5)]
        for when in past:
            loop.call_at(when, seen.append, when)
        await asyncio.sleep(0.001)

    compare(scenario)


def test_time_beyond_all_floats_never_comes(our_loop):
    # The standard loop takes it, and fails as soon as it would have to wait for it.
    timer = our_loop.call_at(10**400, our_loop.stop)
    assert timer.when() == 10**400
    our_loop.run_until_complete(asyncio.sleep(0.001))
    past = our_loop.call_at(-(10**400), our_loop.stop)
    our_loop.run_forever()
    assert past.when() == -(10**400)
    timer.cancel()


@pytest.mark.parametrize("wrong", ["text", 1j, ..., [], numpy.array([1.0])])
def test_what_is_no_time_is_refused_at_once(our_loop, wrong):
    # The standard loop takes it, and fails as it runs.
    with pytest.raises(TypeError):
        our_loop.call_at(wrong, print)
    with pytest.raises(TypeError):
        our_loop.call_later(wrong, print)


def test_no_time_is_the_standard_error():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        for call in (loop.call_at, loop.call_later):
            with pytest.raises(TypeError) as caught:
                call(None, print)
            seen.append(str(caught.value))

    compare(scenario)
