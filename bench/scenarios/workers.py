"""Each further worker of a pool, and the replacement of one that was killed."""

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
from bench.scenarios.common import Started, settled, wait_started

FURTHER = Metric("further_ms", "each further worker", "ms")
REPLACEMENT = Metric("replacement_ms", "a task starts on the replacement", "ms")

_MORE = 8


async def run(case: Case) -> None:
    """Measure the growth of one pool, then the replacements in another."""
    with tempfile.TemporaryDirectory() as directory:
        await _further(case, Path(directory))
        await _replacements(case, Path(directory))


async def _further(case: Case, directory: Path) -> None:
    """Ask a pool that has shown one result for eight tasks more than it has used workers."""
    await case.peer.open(1 + _MORE)
    assert await case.peer.begin(work.echo, 1) == 1
    before_ns = time.monotonic_ns()
    paths = [directory / f"further-{number}" for number in range(1 + _MORE)]
    tasks = [case.peer.start(work.hold, str(path), 1.0) for path in paths]
    started: list[Started | None] = [await wait_started(path, 10.0) for path in paths]
    pids = {mark.pid for mark in started if mark}
    if len(pids) == len(paths):
        last_ns = max(mark.at_ns for mark in started if mark)
        case.add(FURTHER.key, (last_ns - before_ns) / _MORE / 1e6)
    else:
        case.note(FURTHER.key, f"{len(pids)} of {len(paths)} workers ran")
    await settled(tasks, 5.0)
    await case.peer.close()


async def _replacements(case: Case, directory: Path) -> None:
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


async def _wait_replacement(path: Path, task: asyncio.Future[object]) -> Started | None:
    """Wait until the task has begun; stop early when it has failed instead."""
    for _ in range(100):
        if mark := await wait_started(path, 0.05):
            return mark
        if task.done():
            return None
    return None


def reach() -> tuple[Reach, ...]:
    """Give the numbers to reach."""
    return (
        limit("each further worker", FURTHER, 5),
        limit("a replacement worker", REPLACEMENT, 5),
    )


SCENARIO = Scenario(
    name="workers",
    title="Further and replacement workers",
    about="A pool of 9 that has used one worker gets 9 tasks at once. Then one of 2 busy workers "
    "is killed, and the time is taken until the next task begins on its replacement. Pools "
    "that start all workers at once show next to nothing in the first column.",
    metrics=(FURTHER, REPLACEMENT),
    run=run,
    reach=reach,
    bound_s=60,
    quick_peers=("pebble",),
)
