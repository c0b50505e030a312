"""How soon each further worker of a growing pool runs its first task."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench import work
from bench.reach import limit
from bench.results import Case, Metric, Reach, Scenario
from bench.scenarios.waiting import Started, settled, wait_started

FURTHER = Metric("further_ms", "each further worker", "ms")

_MORE = 8


async def run(case: Case) -> None:
    """Measure the growth of one pool."""
    with tempfile.TemporaryDirectory() as directory:
        await _grow(case, Path(directory))


async def _grow(case: Case, directory: Path) -> None:
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


def reach() -> tuple[Reach, ...]:
    """Give the number to reach."""
    return (limit("each further worker", FURTHER, 5),)


SCENARIO = Scenario(
    name="further",
    title="Each further worker",
    about="A pool of 9 that has answered one call gets 9 tasks at once; the time until the last "
    "of them has begun, divided by 8. Every sample has a fresh parent process. Pools that start "
    "all workers when they are made show next to nothing here, and more in the cold start.",
    metrics=(FURTHER,),
    run=run,
    reach=reach,
    bound_s=30,
    processes=(3, 1),
    quick_peers=("pebble",),
)
