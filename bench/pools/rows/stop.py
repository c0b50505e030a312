"""Stopping a call that is running: after a cancellation, and after its deadline."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import work
from bench.harness.accounts import cpu_ns, is_runnable
from bench.harness.goals import limit
from bench.harness.rows import Metric
from bench.pools.rows.base import LIKE_FORKSERVER, Case, row
from bench.pools.rows.waiting import settled, wait_started

PYTHON_CANCEL = Metric("python_cancel_ms", "Python loop, cancel", "ms")
PYTHON_RAISED = Metric("python_raised_ms", "Python loop, cancel, awaiting task resumes", "ms")
PYTHON_DEADLINE = Metric("python_deadline_ms", "Python loop, beyond its deadline", "ms")
C_CANCEL = Metric("c_cancel_ms", "C loop, cancel", "ms")
C_DEADLINE = Metric("c_deadline_ms", "C loop, beyond its deadline", "ms")

#: How long the loops run when they are not stopped.
LOOP_SECONDS = 4.0
DEADLINE_SECONDS = 0.2
#: Our default, after which an interrupted call is killed.
GRACE_MS = 500

_BURNS_ON_MS = 3_400
_SLOW_MS = 1_000
_POLL_SECONDS = 0.0005
_QUIET_NS = 40_000_000
#: Longest wait for one loop to fall silent.
_WATCH_SECONDS = LOOP_SECONDS * 2 + 2


class QuietWatch(threading.Thread):
    """Watches a worker from a thread of its own until it uses no CPU any more."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.last_busy_ns = time.monotonic_ns()

    def run(self) -> None:
        """Remember when the worker was last busy; end when it is quiet or gone."""
        spent = cpu_ns(self._pid)
        end_ns = self.last_busy_ns + int(_WATCH_SECONDS * 1e9)
        while spent is not None and (now_ns := time.monotonic_ns()) < end_ns:
            if now_ns - self.last_busy_ns > _QUIET_NS:
                return
            time.sleep(_POLL_SECONDS)
            latest = cpu_ns(self._pid)
            # A loop that other processes keep off the core for a while has not stopped.
            if latest is None or latest - spent > 20_000 or is_runnable(self._pid):
                self.last_busy_ns = time.monotonic_ns()
            spent = latest


async def run(case: Case) -> None:
    """Measure the Python loop and the C loop, each cancelled and each out of time."""
    # Longer than the Python loop: a worker may add more quickly than we just did.
    additions = int(1.25 * LOOP_SECONDS / _seconds_per_addition())
    await case.peer.open(2)
    assert await case.peer.begin(work.echo, 1) == 1
    with tempfile.TemporaryDirectory() as name:
        measurement = Measurement(case, Path(name))
        await measurement.cancel(PYTHON_CANCEL, PYTHON_RAISED, work.spin, LOOP_SECONDS)
        await measurement.expire(PYTHON_DEADLINE, work.spin, LOOP_SECONDS)
        await measurement.cancel(C_CANCEL, None, work.spin_in_c, additions)
        await measurement.expire(C_DEADLINE, work.spin_in_c, additions)


def _seconds_per_addition() -> float:
    additions = 2_000_000

    def once() -> float:
        before = time.perf_counter()
        sum(itertools.repeat(1, additions))
        return time.perf_counter() - before

    # The quickest: a disturbed one would make a loop that ends by itself too soon.
    return min(once() for _ in range(5)) / additions


class Measurement:
    """One peer's endless loops, numbered so that each has a file to announce itself in."""

    def __init__(self, case: Case, directory: Path) -> None:
        self._case = case
        self._directory = directory
        self._number = 0

    def _path(self) -> Path:
        self._number += 1
        return self._directory / str(self._number)

    async def cancel(
        self, metric: Metric, raised: Metric | None, fn: Callable[..., Any], size: float
    ) -> None:
        """Cancel the awaiting task and take the time until the worker is quiet."""
        for number in range(self._case.pick(7, 3)):
            path = self._path()
            future = self._case.peer.start(fn, str(path), size)
            started = await wait_started(path, 10.0)
            if started is None:
                self._case.note(metric.key, "did not start")
                return
            await asyncio.sleep(0.1)
            watch = QuietWatch(started.pid)
            watch.start()
            cancelled_ns = time.monotonic_ns()
            future.cancel()
            await settled([future], 10.0)
            raised_ns = time.monotonic_ns()
            await _join(watch)
            if raised is not None:
                self._case.add(raised.key, (raised_ns - cancelled_ns) / 1e6)
            if not self._record(metric, watch.last_busy_ns - cancelled_ns, number):
                return

    async def expire(self, metric: Metric, fn: Callable[..., Any], size: float) -> None:
        """Give the call a deadline, and take the time from it until the worker is quiet."""
        for number in range(self._case.pick(7, 3)):
            path = self._path()
            submitted_ns = time.monotonic_ns()
            future = asyncio.ensure_future(
                self._case.peer.begin_with_deadline(DEADLINE_SECONDS, fn, str(path), size)
            )
            started = await wait_started(path, 10.0)
            if started is None:
                self._case.note(metric.key, "did not start")
                return
            watch = QuietWatch(started.pid)
            watch.start()
            await settled([future], 10.0)
            await _join(watch)
            base_ns = started.at_ns if self._case.peer.deadline_from_start else submitted_ns
            overrun_ns = watch.last_busy_ns - base_ns - int(DEADLINE_SECONDS * 1e9)
            if not self._record(metric, overrun_ns, number):
                return

    def _record(self, metric: Metric, overrun_ns: int, number: int) -> bool:
        """Record how long the loop went on; False when more samples would tell no more."""
        overrun_ms = overrun_ns / 1e6
        if overrun_ms > _BURNS_ON_MS:
            self._case.note(
                metric.key, f"burns on after {number} stopped" if number else "burns on"
            )
            return False
        self._case.add(metric.key, overrun_ms)
        return overrun_ms < _SLOW_MS or number < 2


async def _join(watch: QuietWatch) -> None:
    await asyncio.get_running_loop().run_in_executor(None, watch.join)


GOALS = (
    limit("Python loop stopped after cancel", PYTHON_CANCEL, 10),
    limit("Python loop stopped after deadline", PYTHON_DEADLINE, 10),
    limit("C loop with the GIL stopped after cancel", C_CANCEL, GRACE_MS + 10),
    limit("C loop with the GIL stopped after deadline", C_DEADLINE, GRACE_MS + 10),
)

ROW = row(
    name="stop",
    title="Stopping a running call",
    about="From the cancellation, or from the deadline of 200 ms, until the worker "
    "sleeps and its CPU clock stands still, or its process is gone. Both loops end by themselves "
    "after 4 seconds or more: `burns on` means that nothing stopped them before.",
    metrics=(PYTHON_CANCEL, PYTHON_RAISED, PYTHON_DEADLINE, C_CANCEL, C_DEADLINE),
    run=run,
    without=LIKE_FORKSERVER,
    goals=GOALS,
    bound_s=150,
    quick_peers=("anyio",),
    entrances=("offloop", "offloop-executor"),
    is_outcome=True,
)
