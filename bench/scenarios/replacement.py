"""How soon the next task runs after a worker was killed and all others are busy."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from pathlib import Path

from bench import work
from bench.reach import limit
from bench.results import Case, Metric, Reach, Scenario
from bench.scenarios.waiting import Started, settled, wait_started

REPLACEMENT = Metric("replacement_ms", "the next task begins", "ms")


async def run(case: Case) -> None:
    """Kill workers of one pool, one at a time."""
    with tempfile.TemporaryDirectory() as directory:
        await _replace(case, Path(directory))


async def _replace(case: Case, directory: Path) -> None:
    """Kill one busy worker while the other is busy: only a new one can run the next task."""
    await case.peer.open(2)
    for number in range(case.pick(7, 3)):
        first, second, third = (directory / f"{number}-{part}" for part in range(3))
        tasks = [
            case.peer.start(work.hold, str(first), 2.0),
            case.peer.start(work.hold, str(second), 0.8),
        ]
        victim = await wait_started(first, 10.0)
        survivor = await wait_started(second, 10.0)
        if victim is None or survivor is None:
            case.note(REPLACEMENT.key, "hangs" if number else "tasks did not start")
            return
        os.kill(victim.pid, signal.SIGKILL)
        killed_ns = time.monotonic_ns()
        try:
            tasks.append(case.peer.start(work.hold, str(third), 0.01))
        except Exception as error:
            case.note(REPLACEMENT.key, f"refused: {type(error).__name__}")
            return
        replacement = await _wait_replacement(third, tasks[2])
        if replacement is None:
            case.note(REPLACEMENT.key, "pool broken" if tasks[2].done() else "hangs")
            return
        case.add(REPLACEMENT.key, (replacement.at_ns - killed_ns) / 1e6)
        await settled(tasks[1:], 3.0)
        await settled(tasks[:1], 0.05)


async def _wait_replacement(path: Path, task: asyncio.Future[object]) -> Started | None:
    """Wait until the task has begun; stop early when it has failed instead."""
    for _ in range(100):
        if mark := await wait_started(path, 0.05):
            return mark
        if task.done():
            return None
    return None


def reach() -> tuple[Reach, ...]:
    """Give the number to reach."""
    return (limit("a replacement worker", REPLACEMENT, 5),)


SCENARIO = Scenario(
    name="replacement",
    title="The replacement of a killed worker",
    about="One of 2 busy workers gets SIGKILL, and another task is submitted at once: the time "
    "until it begins, which it can only do on a new worker.",
    metrics=(REPLACEMENT,),
    run=run,
    reach=reach,
    quick_peers=("pebble",),
)
