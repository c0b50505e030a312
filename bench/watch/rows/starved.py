"""The machine is too busy for the program: none of its code is to blame."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

from bench.harness.goals import beside, exactly
from bench.harness.rows import Case, Metric, Statistic
from bench.loop.rows.running import say
from bench.watch.reports import blamed
from bench.watch.rows.base import SETTLE_S, Ticker, WatchRow, run_on_its_loop, watcher_of
from bench.watch.watchers.base import Watcher

BLAMED = Metric("blamed", "stalls for which code was blamed", "", statistic=Statistic.WORST)
PAUSES = Metric("pauses", "pauses of the loop beyond the threshold", "")

#: Processes on each core that compute and never wait.
_HOGS = 2
#: Added to the niceness, so that such a process runs 70 times as much as this one.
_NICE = 19
#: CPU time of one callback: a tenth of the threshold.
_WORK_S = 0.005
_PAUSE_S = 0.01


async def _work(watcher: Watcher, seconds: float) -> tuple[float, int]:
    """Do a little in each callback for so long; return when that began, and the pauses."""
    await watcher.start()
    await asyncio.sleep(SETTLE_S)
    ticker = Ticker()
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        done = time.thread_time() + _WORK_S
        while time.thread_time() < done:
            pass
        await asyncio.sleep(_PAUSE_S)
    ticker.stop()
    await watcher.stop()
    return began, ticker.pauses


def _run(case: Case) -> None:
    hog = [sys.executable, "-c", "while True: pass"]
    for _ in range(_HOGS * len(os.sched_getaffinity(0))):
        subprocess.Popen(hog)
    os.nice(_NICE)
    watcher = watcher_of(case)
    began, pauses = run_on_its_loop(watcher, _work(watcher, case.pick(20, 5)))
    say(blamed=blamed(watcher.reports, began), pauses=pauses)


ROW = WatchRow(
    name="starved",
    title="a machine that is too busy",
    about=f"{_HOGS} processes on each core compute, at a better priority, while the program does "
    "5 ms of work in each callback.",
    metrics=(BLAMED, PAUSES),
    goals=(
        exactly("starved by other processes: stalls for which code was blamed", BLAMED, 0),
        beside("the same: pauses beyond the threshold", PAUSES),
    ),
    run=_run,
    rounds=(3, 1),
    bound_s=120,
)
