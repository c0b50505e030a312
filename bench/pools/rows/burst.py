"""5,000 tasks with 100 KB each in one go: what a submission costs, and whether the loop lives."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from typing import TYPE_CHECKING

from bench import work
from bench.harness.accounts import CpuMeter
from bench.harness.goals import limit
from bench.harness.rows import Metric
from bench.pools.rows.base import LIKE_FORKSERVER, Case, row

if TYPE_CHECKING:
    from bench.work import Array

TASKS = 5_000
LENGTH = 12_500  # 100 KB of float64

SUBMIT = Metric("submit_us", "one submission", "us")
GAP = Metric("gap_ms", "worst gap of a 1 ms ticker after the burst", "ms")
TOTAL = Metric("total_ms", "until the last answer", "ms")
CPU = Metric("cpu_us", "CPU of all processes", "us/call")


class Ticker:
    """A coroutine that wants to run every millisecond, and the times at which it could."""

    def __init__(self) -> None:
        self._at: list[float] = []
        self._task = asyncio.ensure_future(self._tick())

    async def _tick(self) -> None:
        while True:
            self._at.append(time.perf_counter())
            await asyncio.sleep(0.001)

    def stop(self) -> None:
        """End the ticking."""
        self._task.cancel()

    def worst_gap(self, since: float) -> float:
        """Return the longest wait between two ticks after ``since``, in seconds."""
        at = [since, *(moment for moment in self._at if moment > since), time.perf_counter()]
        return max(later - earlier for earlier, later in itertools.pairwise(at))


async def run(case: Case) -> None:
    """Send one burst to warm up, then the measured ones."""
    import numpy

    await case.peer.open(2)
    arrays = [numpy.full(LENGTH, float(number)) for number in range(TASKS)]
    await _burst(case, arrays, 1, record=False)
    for number in range(case.pick(3, 2)):
        await _burst(case, arrays, 1000 + number, record=True)


async def _burst(case: Case, arrays: list[Array], seed: int, *, record: bool) -> None:
    expected = [work.stamp(array, seed + number) for number, array in enumerate(arrays)]
    gc.collect()
    ticker = Ticker()
    await asyncio.sleep(0.01)
    cpu = CpuMeter()
    cpu.start()
    before = time.perf_counter()
    start = case.peer.start
    futures = [start(work.read_sum, array, seed + n) for n, array in enumerate(arrays)]
    # A coroutine submits in its first step, which is now.
    await asyncio.sleep(0)
    submitted = time.perf_counter()
    # Gathering visits all futures in one go, which takes milliseconds of this loop for every peer.
    gathered = asyncio.gather(*futures)
    waiting = time.perf_counter()
    answers = await gathered
    ended = time.perf_counter()
    gap = ticker.worst_gap(waiting)
    ticker.stop()
    assert answers == expected, "the workers read other arrays than were sent"
    if record:
        case.add(SUBMIT.key, (submitted - before) / TASKS * 1e6)
        case.add(GAP.key, gap * 1000)
        case.add(TOTAL.key, (ended - before) * 1000)
        case.add(CPU.key, cpu.stop() / TASKS / 1000)


_EXECUTOR = "offloop-executor"

GOALS = (
    limit("5,000 x 100 KB: submission, `to_process`", SUBMIT, 12),
    limit("5,000 x 100 KB: submission, `run_in_executor`", SUBMIT, 12, entrance=_EXECUTOR),
    limit("5,000 x 100 KB: worst gap, `to_process`", GAP, 3),
    limit("5,000 x 100 KB: worst gap, `run_in_executor`", GAP, 3, entrance=_EXECUTOR),
)

ROW = row(
    name="burst",
    title="5,000 tasks with 100 KB arguments submitted in one go",
    about="5,000 different arrays, rewritten before each burst; one burst warms up. The gap is "
    "the longest time the loop left a 1 ms ticker waiting after the submissions were done and "
    "gathered. "
    "A submission that does not copy leaves the copying to other threads, which hold the GIL.",
    metrics=(SUBMIT, GAP, TOTAL, CPU),
    run=run,
    without=LIKE_FORKSERVER,
    goals=GOALS,
    bound_s=120,
    quick_peers=("multiprocessing",),
    entrances=("offloop", "offloop-executor"),
    packages=("numpy",),
)
