"""Short pure-Python tasks on 2 workers against the same tasks in a plain loop."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from bench import work
from bench.measure import CpuMeter
from bench.reach import limit
from bench.results import Case, Metric, Reach, Scenario

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


async def run(case: Case) -> None:
    """Measure both lengths of task."""
    await case.peer.open(2)
    tasks = case.pick(1, 2)
    for size in (
        Size(100, 6000 // tasks, SHORT, SHORT_CPU),
        Size(1000, 1200 // tasks, LONG, LONG_CPU),
    ):
        iterations = _calibrate(size.task_us)
        await _parallel(case, iterations, 100)
        for repetition in range(case.pick(5, 3)):
            await _compare(case, size, iterations, repetition * size.tasks)


async def _compare(case: Case, size: Size, iterations: int, seed: int) -> None:
    """Run the same tasks alone, on the pool, and alone again, and record the speed-up."""
    expected, first = _serial(iterations, size.tasks, seed)
    cpu = CpuMeter()
    cpu.start()
    answers, parallel = await _parallel(case, iterations, size.tasks, seed)
    cpu_s = cpu.stop() / 1e9
    _, last = _serial(iterations, size.tasks, seed)
    assert answers == expected, "the answers are not those of the serial run"
    serial = (first + last) / 2
    case.add(size.speedup.key, serial / parallel)
    case.add(size.cpu.key, (cpu_s - serial) / size.tasks * 1e6)


def _calibrate(task_us: float) -> int:
    """Return how many iterations take this long here."""
    best = min(_serial(10_000, 1, seed)[1] for seed in range(50))
    return max(1, round(10_000 * task_us / (best * 1e6)))


def _serial(iterations: int, tasks: int, seed: int) -> tuple[list[int], float]:
    before = time.perf_counter()
    answers = [work.burn(iterations, seed + number) for number in range(tasks)]
    return answers, time.perf_counter() - before


async def _parallel(
    case: Case, iterations: int, tasks: int, seed: int = 0
) -> tuple[list[int], float]:
    begin = case.peer.begin
    before = time.perf_counter()
    answers = await asyncio.gather(
        *[begin(work.burn, iterations, seed + number) for number in range(tasks)]
    )
    return answers, time.perf_counter() - before


def reach() -> tuple[Reach, ...]:
    """Give the numbers to reach."""
    return (
        limit("speed-up of 100 us tasks, `to_process`", SHORT, 1.6),
        limit("speed-up of 100 us tasks, `run_in_executor`", SHORT, 1.4, peer="offloop-executor"),
        limit("speed-up of 1 ms tasks", LONG, 1.9),
    )


SCENARIO = Scenario(
    name="speedup",
    title="Speed-up of short pure-Python tasks on 2 workers",
    about="The same tasks run in a plain loop before and after; their answers are compared.",
    metrics=(SHORT, SHORT_CPU, LONG, LONG_CPU),
    run=run,
    reach=reach,
    bound_s=120,
    entrances=("offloop", "offloop-executor"),
)
