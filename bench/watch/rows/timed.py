"""Three stalls of 300 ms: when a tool tells, which line it names, and how long it says it took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from bench.harness.goals import exactly, limit
from bench.harness.rows import Case, Metric, Statistic
from bench.loop.rows.running import say
from bench.watch import stalls
from bench.watch.reports import Truth, stall_numbers
from bench.watch.rows.base import AFTER_S, SETTLE_S, WatchRow, run_on_its_loop, watcher_of
from bench.watch.watchers.base import Watcher

FOUND = Metric("found", "found", "%", higher_is_better=True, statistic=Statistic.MEAN)
LATE = Metric("late_ms", "told after the threshold", "ms")
LATEST = Metric("late_ms", "the same, at worst", "ms", statistic=Statistic.WORST)
LINE = Metric("line", "exact line", "%", higher_is_better=True, statistic=Statistic.MEAN)
ERROR = Metric("error_ms", "duration wrong by", "ms")
WORST_ERROR = Metric("error_ms", "the same, at worst", "ms", statistic=Statistic.WORST)

_TITLES = {
    "sleep": "time.sleep",
    "native": "a C call that keeps the GIL",
    "python": "a loop in Python",
}


async def suffer(watcher: Watcher, cause: str, stall: stalls.Stall) -> Truth:
    """Stall once, under a tool that has found its feet, and let it say what it has to."""
    await watcher.start()
    await asyncio.sleep(SETTLE_S)
    called = time.monotonic()
    try:
        span = stall()
    except watcher.refusals as error:
        span = (called, time.monotonic())
        watcher.refuse(error)
    await asyncio.sleep(AFTER_S)
    await watcher.stop()
    return stalls.truth_of(cause, stall, span)


def _stalling(name: str) -> Callable[[Case], None]:
    def run(case: Case) -> None:
        watcher, stall = watcher_of(case), stalls.TIMED[name]()
        truth = run_on_its_loop(watcher, suffer(watcher, name, stall))
        say(**stall_numbers(truth, watcher.reports))

    return run


def _row(name: str) -> WatchRow:
    title = _TITLES[name]
    return WatchRow(
        name=f"stall-{name}",
        title=f"a stall of 300 ms: {title}",
        about="One stall in each process, beyond a threshold of 50 ms. A tool that refuses the "
        "call has told before.",
        metrics=(FOUND, LATE, LATEST, LINE, ERROR, WORST_ERROR),
        goals=(
            exactly(f"{title}: found", FOUND, 100),
            limit(f"{title}: told after the threshold, at worst", LATEST, 10),
            exactly(f"{title}: the exact line", LINE, 100),
            limit(f"{title}: duration wrong by, at worst", WORST_ERROR, 1),
        ),
        run=_stalling(name),
        rounds=(50, 3),
        bound_s=20,
    )


ROWS = tuple(map(_row, _TITLES))
