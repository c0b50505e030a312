"""Measures how late event loops run, whoever made them and whenever.

Every loop announces itself to ``asyncio.events._set_running_loop`` when it starts and when it
stops; `LagMeter` stands there.  While a loop runs, a callback asks to be called every tick, and the
time by which it is called too late is the lag.

Units:      seconds; the histogram counts microseconds.
Invariants: 1. At most one callback of ours is scheduled on a loop, none on a stopped one.
            2. Memory does not grow with the length of the run.
Source:     the standard loop and uvloop both call that function; so must any loop for which
            ``asyncio.get_running_loop`` is to work.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import Callable
from typing import Any

from offloop._run.loops_seen import LoopsSeen

TICK_SECONDS = 0.010
"""Short against what a person notices (100 ms), long against the cost of a callback (10 us)."""

STEPS_PER_OCTAVE = 16
"""A bucket is then at most 6 % wide, which is finer than such a measurement repeats."""

OCTAVES = 40
"""From one microsecond to twelve days."""


class LagHistogram:
    """Counts of lags in logarithmic buckets, and the exact worst."""

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * STEPS_PER_OCTAVE * OCTAVES))
        self.count = 0
        self.worst_seconds = 0.0

    def record(self, seconds: float) -> None:
        """Count one lag."""
        mantissa, exponent = math.frexp(max(seconds * 1e6, 1.0))
        step = int((mantissa - 0.5) * 2 * STEPS_PER_OCTAVE)
        bucket = min((exponent - 1) * STEPS_PER_OCTAVE + step, len(self._counts) - 1)
        self._counts[bucket] += 1
        self.count += 1
        self.worst_seconds = max(self.worst_seconds, seconds)

    def percentile_seconds(self, percent: float) -> float:
        """The lag that ``percent`` of the ticks did not exceed, to within a bucket."""
        wanted = math.ceil(self.count * percent / 100)
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min(self._upper_edge_seconds(bucket), self.worst_seconds)
        return 0.0

    @staticmethod
    def _upper_edge_seconds(bucket: int) -> float:
        octave, step = divmod(bucket, STEPS_PER_OCTAVE)
        return math.ldexp(1 + (step + 1) / STEPS_PER_OCTAVE, octave) / 1e6


class LoopTicker:
    """The recurring callback on one running loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, histogram: LagHistogram) -> None:
        self._loop = loop
        self._histogram = histogram
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._arm()

    def _arm(self) -> None:
        self._due = time.monotonic() + TICK_SECONDS
        self._handle = self._loop.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._histogram.record(max(time.monotonic() - self._due, 0.0))
        self._arm()

    def stop(self) -> None:
        """Take the callback off the loop; a tick that is overdue by now counts as late."""
        late = time.monotonic() - self._due
        if late > 0:
            self._histogram.record(late)
        if self._handle is not None:
            self._handle.cancel()


class LagMeter:
    """Measures every loop that runs in this process after `install`."""

    def __init__(self) -> None:
        self.histogram = LagHistogram()
        self.loop_kinds: set[str] = set()
        self.loops = LoopsSeen()
        self._tickers: dict[int, LoopTicker] = {}
        self._set_running_loop: Callable[[Any], None] = asyncio.events._set_running_loop

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
            self._tickers[id(loop)] = LoopTicker(loop, self.histogram)
