"""A worker is killed while ten tasks are in flight: how many of them fail or are lost."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import work
from bench.harness.goals import exactly, limit
from bench.harness.rows import Metric
from bench.pools.rows.base import Case, row
from bench.pools.rows.waiting import settled, wait_started

TASKS = 10

FAILED = Metric("failed", "tasks failed", "of 10")
SPOILED = Metric("spoiled", "tasks failed or lost", "of 10")
OPEN = Metric("open", "tasks without an outcome after 6 s", "of 10")
USABLE = Metric("usable_ms", "next call answered after", "ms")


async def run(case: Case) -> None:
    """Kill the worker of the first task, count the outcomes, and ask for one more."""
    with tempfile.TemporaryDirectory() as name:
        for number in range(case.pick(2, 1)):
            directory = Path(name) / str(number)
            directory.mkdir()
            if not await _round(case, directory):
                return


async def _round(case: Case, directory: Path) -> bool:
    await case.peer.open(2)
    assert await case.peer.begin(work.echo, 1) == 1
    paths = [directory / str(number) for number in range(TASKS)]
    futures = [case.peer.start(work.hold, str(path), 0.3) for path in paths]
    first = await wait_started(paths[0], 10.0)
    assert first is not None, "the first task did not start"
    os.kill(first.pid, signal.SIGKILL)
    killed = time.perf_counter()
    outcomes = await settled(futures, 6.0)
    failed = sum(1 for future in futures if _failed(future))
    case.add(FAILED.key, failed)
    case.add(SPOILED.key, failed + TASKS - outcomes)
    case.add(OPEN.key, TASKS - outcomes)
    usable = await _use(case, killed if outcomes == 0 else time.perf_counter())
    return usable and outcomes == TASKS


def _failed(future: asyncio.Future[Any]) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)


async def _use(case: Case, since: float) -> bool:
    """Ask the pool for one more answer; False when it will not give it."""
    try:
        answer = await asyncio.wait_for(case.peer.begin(work.echo, 2), 5.0)
    except TimeoutError:
        case.note(USABLE.key, "hangs")
        return False
    except Exception as error:
        case.note(USABLE.key, f"broken: {type(error).__name__}")
        return False
    assert answer == 2, "a wrong answer"
    case.add(USABLE.key, (time.perf_counter() - since) * 1000)
    return True


#: A task that failed is honest, a task without outcome is not.
GOALS = (
    exactly("worker killed, 9 others in flight: failed or lost", SPOILED, 1),
    exactly("worker killed, 9 others in flight: lost", OPEN, 0),
    limit("worker killed, 9 others in flight: usable after", USABLE, 10),
)

ROW = row(
    name="crash",
    title="A worker killed with 9 other tasks in flight",
    about="2 workers, 10 tasks of 0.3 s; SIGKILL for the worker of the first. One failed task is "
    "right: the task that ran there.",
    metrics=(FAILED, OPEN, SPOILED, USABLE),
    run=run,
    goals=GOALS,
    quick_peers=("multiprocessing",),
    entrances=("offloop", "offloop-executor"),
    is_outcome=True,
)
