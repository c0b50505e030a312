"""Callbacks, timers, and wake-ups from another thread: what the loop itself costs."""

from __future__ import annotations

import asyncio
import functools
import random
import statistics
import threading
import time

from bench.harness.goals import ratio
from bench.harness.rows import Case, Metric
from bench.loop.rows.base import LoopRow
from bench.loop.rows.running import Repetition, measuring, run_on, say

NS = Metric("ns", "each", "ns")
LATENCY = Metric("us", "p50", "us")

#: The timers of one pass fall due within this time, which scheduling them takes anyway.
_SPREAD_S = 0.001
#: Between two calls from another thread: long enough for the loop to fall asleep.
_PAUSE_S = 0.0002


async def chain(count: int) -> None:
    """Each callback schedules the next one."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = count

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    loop.call_soon(step)
    await done


async def burst(count: int) -> None:
    """All callbacks are scheduled at once, each with an argument."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    for number in range(count - 1):
        loop.call_soon(_nothing, number)
    loop.call_soon(done.set_result, None)
    await done


@functools.cache
def _delays(count: int) -> list[float]:
    """Delays in a random order; the pass that warms up pays for the shuffling."""
    delays = [_SPREAD_S * number / count for number in range(count)]
    random.Random(7).shuffle(delays)
    return delays


async def fire(count: int) -> None:
    """Timers in a random order run when they are due, which is at once."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = count
    delays = _delays(count)

    def ring() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    for delay in delays:
        loop.call_later(delay, ring)
    await done


async def cancel(count: int) -> None:
    """Timers are scheduled and cancelled again, as time limits are; a thousand in each round."""
    loop = asyncio.get_running_loop()
    while count > 0:
        for _ in range(min(count, 1000)):
            loop.call_later(60, _nothing).cancel()
        count -= 1000
        await asyncio.sleep(0)


async def threadsafe_burst(count: int) -> None:
    """Another thread schedules everything while the loop runs it."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def schedule() -> None:
        for number in range(count - 1):
            loop.call_soon_threadsafe(_nothing, number)
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=schedule)
    thread.start()
    await done
    thread.join()


async def _latencies(count: int) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    times: list[float] = []
    answered = threading.Event()

    def arrive(called: int) -> None:
        times.append((time.perf_counter_ns() - called) / 1000)
        answered.set()

    def call() -> None:
        for _ in range(count):
            time.sleep(_PAUSE_S)
            answered.clear()
            loop.call_soon_threadsafe(arrive, time.perf_counter_ns())
            answered.wait()
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=call)
    thread.start()
    await done
    thread.join()
    say(us=statistics.median(times))


def threadsafe_latency(case: Case) -> None:
    """Measure from the call in another thread to the callback in the sleeping loop."""
    run_on(case, _latencies(case.pick(2000, 500)))


def _nothing(_number: int = 0) -> None:
    """Do nothing, as cheaply as Python can."""


def _row(name: str, title: str, about: str, repetition: Repetition, count: int) -> LoopRow:
    return LoopRow(
        name=name,
        title=title,
        about=about,
        metrics=(NS,),
        goals=(ratio(title, NS, 0.85),),
        run=measuring(repetition, count, count // 2),
    )


ROWS = (
    _row("call-soon-chain", "call_soon, a chain", chain.__doc__ or "", chain, 100_000),
    _row("call-soon-burst", "call_soon, a burst", burst.__doc__ or "", burst, 50_000),
    _row("timers-fire", "timers that fire", fire.__doc__ or "", fire, 20_000),
    _row("timers-cancel", "timers scheduled and cancelled", cancel.__doc__ or "", cancel, 100_000),
    _row(
        "threadsafe-burst",
        "call_soon_threadsafe, a burst",
        threadsafe_burst.__doc__ or "",
        threadsafe_burst,
        50_000,
    ),
    LoopRow(
        name="threadsafe-latency",
        title="call_soon_threadsafe, latency",
        about="From the call in another thread to the callback in a loop that slept.",
        metrics=(LATENCY,),
        goals=(ratio("call_soon_threadsafe, latency p50", LATENCY, 0.85),),
        run=threadsafe_latency,
    ),
)
