"""Short pure-Python tasks on 2 workers against the same tasks in a plain loop."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from bench import work
from bench.harness.accounts import CpuMeter
from bench.harness.goals import limit
from bench.harness.rows import Metric
from bench.pools.rows.base import LIKE_FORKSERVER, Case, row

SHORT = Metric("short", "speed-up, 100 us tasks", "x", higher_is_better=True)
SHORT_CPU = Metric("short_cpu_us", "CPU beyond the work, 100 us tasks", "us/call")
LONG = Metric("long", "speed-up, 1 ms tasks", "x", higher_is_better=True)
LONG_CPU = Metric("long_cpu_us", "CPU beyond the work, 1 ms tasks", "us/call")


@dataclass(frozen=True)
class Size:
    """Tasks of one length, and where their speed-up is recorded."""

    task_us: float
    tasks: int
    speedup: Metric
    cpu: Metric


@dataclass(frozen=True)
class Alone:
    """What the same tasks take in a plain loop, in seconds."""

    wall: float
    cpu: float


async def run(case: Case) -> None:
    """Measure both lengths of task."""
    await case.peer.open(2)
    for size in (Size(100, 3000, SHORT, SHORT_CPU), Size(1000, 600, LONG, LONG_CPU)):
        iterations = _calibrate(size.task_us)
        await _parallel(case, iterations, 100, 0)
        _, before = _serial(iterations, size.tasks, 0)
        for repetition in range(1, 1 + case.pick(5, 3)):
            before = await _compare(case, size, iterations, repetition, before)


async def _compare(
    case: Case, size: Size, iterations: int, repetition: int, before: Alone
) -> Alone:
    """Run the tasks on the pool and then alone; record the speed-up, and return the time alone.

    The pool's turn is compared with the turns alone before and after it, which take as long
    whatever their seeds are.
    """
    seed = repetition * size.tasks
    cpu = CpuMeter()
    cpu.start()
    answers, parallel = await _parallel(case, iterations, size.tasks, seed)
    cpu_s = cpu.stop() / 1e9
    expected, after = _serial(iterations, size.tasks, seed)
    assert answers == expected, "the answers are not those of the serial run"
    wall, cpu_alone = (before.wall + after.wall) / 2, (before.cpu + after.cpu) / 2
    case.add(size.speedup.key, wall / parallel)
    case.add(size.cpu.key, (cpu_s - cpu_alone) / size.tasks * 1e6)
    return after


def _calibrate(task_us: float) -> int:
    """Return how many iterations take this long here."""
    best = min(_serial(10_000, 1, seed)[1].wall for seed in range(50))
    return max(1, round(10_000 * task_us / (best * 1e6)))


def _serial(iterations: int, tasks: int, seed: int) -> tuple[list[int], Alone]:
    cpu, before = time.thread_time(), time.perf_counter()
    answers = [work.burn(iterations, seed + number) for number in range(tasks)]
    return answers, Alone(time.perf_counter() - before, time.thread_time() - cpu)


async def _parallel(case: Case, iterations: int, tasks: int, seed: int) -> tuple[list[int], float]:
    begin = case.peer.begin
    before = time.perf_counter()
    answers = await asyncio.gather(
        *[begin(work.burn, iterations, seed + number) for number in range(tasks)]
    )
    return answers, time.perf_counter() - before


GOALS = (
    limit("speed-up, 100 us tasks, `to_process`", SHORT, 1.6),
    limit("speed-up, 100 us tasks, `run_in_executor`", SHORT, 1.4, entrance="offloop-executor"),
    limit("speed-up, 1 ms tasks, `to_process`", LONG, 1.9),
    limit("speed-up, 1 ms tasks, `run_in_executor`", LONG, 1.9, entrance="offloop-executor"),
)

ROW = row(
    name="speedup",
    title="Speed-up of short pure-Python tasks on 2 workers",
    about="The same tasks run in a plain loop before and after; their answers are compared.",
    metrics=(SHORT, SHORT_CPU, LONG, LONG_CPU),
    run=run,
    without=LIKE_FORKSERVER,
    goals=GOALS,
    bound_s=120,
    entrances=("offloop", "offloop-executor"),
)
