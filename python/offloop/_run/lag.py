"""Measures how late event loops run: every loop of the process, whenever it was made.

Every loop announces itself to ``asyncio.events._set_running_loop`` when it starts and when it
stops; `LagMeter` stands there.  A loop of ours knows its lag.  While any other loop runs, a
callback asks to be called every tick, and the time by which it is called too late is the lag.

Units:      seconds.
Invariants: 1. At most one callback of ours is scheduled on a loop, none on a stopped one and none
               on a loop of ours: with nothing to do, it sleeps.
            2. Memory does not grow with the length of the run.
Source:     the standard loop and uvloop both call that function; so must any loop for which
            ``asyncio.get_running_loop`` is to work.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from _offloop_worker._offloop import LagRecorder
from offloop import EventLoop, LagHistogram
from offloop._run.loops_seen import LOOPS_KEPT, LoopsSeen

TICK_SECONDS = 0.010
"""Short against what a person notices (100 ms), long against the cost of a callback (10 us)."""


def _count(lags: Iterable[LagHistogram]) -> int:
    return sum(lag.count for lag in lags)


def merged(lags: Sequence[LagHistogram]) -> LagHistogram:
    """Several histograms as one; the edges of their buckets are the same."""
    buckets: Counter[float] = Counter()
    for lag in lags:
        buckets.update(dict(lag.buckets))
    count, longest = _count(lags), max((lag.max for lag in lags), default=0.0)
    ordered = sorted(buckets.items())
    quantiles = {
        name: _quantile(ordered, share * count, longest)
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
    }
    total = sum(lag.total for lag in lags)
    return LagHistogram(count, total, max=longest, buckets=tuple(ordered), **quantiles)


def _quantile(buckets: list[tuple[float, int]], rank: float, longest: float) -> float:
    """The edge below which so many lie; no more than the longest."""
    below = 0
    for edge, count in buckets:
        below += count
        if below >= rank:
            return min(edge, longest)
    return longest


class LoopTicker:
    """The recurring callback on one running loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, recorder: LagRecorder) -> None:
        self._loop = loop
        self._recorder = recorder
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._arm()

    def _arm(self) -> None:
        self._due = time.monotonic() + TICK_SECONDS
        self._handle = self._loop.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._recorder.record(max(time.monotonic() - self._due, 0.0))
        self._arm()

    def stop(self) -> None:
        """Take the callback off the loop; a tick that is overdue by now counts as late."""
        late = time.monotonic() - self._due
        if late > 0:
            self._recorder.record(late)
        if self._handle is not None:
            self._handle.cancel()


class LagMeter:
    """Measures every loop that runs in this process after `install`."""

    def __init__(self) -> None:
        self._recorder = LagRecorder()
        self.loop_kinds: set[str] = set()
        self.loops = LoopsSeen()
        self._tickers: dict[int, LoopTicker] = {}
        self._set_running_loop: Callable[[Any], None] = asyncio.events._set_running_loop

    def histogram(self) -> tuple[LagHistogram, str]:
        """The lags of all loops, and what was counted."""
        ticks = LagHistogram(**self._recorder.fields())
        polls = [seen.statistics.lag for seen in self.loops.busiest(LOOPS_KEPT)]
        counted = [name for name, lags in (("ticks", [ticks]), ("polls", polls)) if _count(lags)]
        return merged([ticks, *polls]), " and ".join(counted) or "ticks"

    def install(self) -> None:
        """Stand between the loops and asyncio's record of the running one."""
        asyncio.events._set_running_loop = self._announce
        asyncio._set_running_loop = self._announce

    def _announce(self, loop: asyncio.AbstractEventLoop | None) -> None:
        leaving = asyncio._get_running_loop()
        self._set_running_loop(loop)
        if leaving is not None and leaving is not loop:
            ticker = self._tickers.pop(id(leaving), None)
            if ticker is not None:
                ticker.stop()
            self.loops.note(leaving)
        if loop is not None and id(loop) not in self._tickers:
            self.loops.note(loop)
            self.loop_kinds.add(type(loop).__module__.partition(".")[0])
            if not isinstance(loop, EventLoop):
                self._tickers[id(loop)] = LoopTicker(loop, self._recorder)
