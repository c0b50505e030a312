"""The parent is killed in mid-task: which of its processes are still there 200 ms later."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import work
from bench.harness.accounts import TOKEN, is_alive, kill_all, processes
from bench.harness.goals import exactly
from bench.harness.rows import Metric
from bench.pools.rows.base import Case, row
from bench.pools.rows.waiting import wait_started

WORKERS = Metric("workers", "workers alive after 200 ms", "of 2")
ALL = Metric("processes", "processes alive after 200 ms", "")
GONE = Metric("gone_ms", "until the last one is gone", "ms")

_TASK_SECONDS = 4.0
_WATCH_SECONDS = 5.0


async def run(case: Case) -> None:
    """Play the parent that will be killed, or start one and kill it."""
    if directory := os.environ.get("BENCH_VICTIM_DIRECTORY"):
        await _be_victim(case, Path(directory))
        return
    for _ in range(case.pick(2, 1)):
        with tempfile.TemporaryDirectory() as name:
            await _kill_and_count(case, Path(name))


async def _be_victim(case: Case, directory: Path) -> None:
    await case.peer.open(2)
    tasks = [
        case.peer.start(work.spin, str(directory / str(number)), _TASK_SECONDS)
        for number in range(2)
    ]
    await asyncio.gather(*tasks)


async def _kill_and_count(case: Case, directory: Path) -> None:
    token = f"{os.environ[TOKEN]}-victim"
    environment = os.environ | {TOKEN: token, "BENCH_VICTIM_DIRECTORY": str(directory)}
    # The same command line as ours: the same row, peer and, if any, `offloop run`.
    victim = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]], env=environment, start_new_session=True
    )
    try:
        started = [await wait_started(directory / str(number), 15.0) for number in range(2)]
        workers = {mark.pid for mark in started if mark}
        assert len(workers) == 2, "the tasks did not start on two workers"
        others = set(processes(token, victim.pid)) - {victim.pid}
        victim.send_signal(signal.SIGKILL)
        killed = time.perf_counter()
        victim.wait()
        gone = await _wait_gone(others, killed, 0.2)
        alive = _alive(others)
        case.add(WORKERS.key, len(alive & workers))
        case.add(ALL.key, len(alive))
        if gone is None:
            gone = await _wait_gone(others, killed, _WATCH_SECONDS)
        if gone is None:
            case.note(GONE.key, "never ends")
        else:
            case.add(GONE.key, gone * 1000)
    finally:
        kill_all(token)
        victim.wait()


async def _wait_gone(pids: set[int], since: float, seconds: float) -> float | None:
    """Return after how many seconds all were gone; None when some were there at the end."""
    while _alive(pids):
        if time.perf_counter() - since > seconds:
            return None
        await asyncio.sleep(0.002)
    return time.perf_counter() - since


def _alive(pids: set[int]) -> set[int]:
    """Return those that are neither gone nor waiting to be reaped."""
    return {pid for pid in pids if is_alive(pid)}


GOALS = (
    exactly("parent killed: workers alive after 200 ms", WORKERS, 0),
    exactly("parent killed: processes alive after 200 ms", ALL, 0),
)

ROW = row(
    name="orphans",
    title="The parent is killed in mid-task",
    about="Both workers are in a busy Python loop of 4 s when their parent gets SIGKILL. The "
    "second column counts helpers too: fork servers, resource trackers, zygotes.",
    metrics=(WORKERS, ALL, GONE),
    run=run,
    goals=GOALS,
    bound_s=90,
    quick_peers=("multiprocessing",),
    is_outcome=True,
)
