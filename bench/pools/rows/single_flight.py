"""One no-op at a time: how long a round trip takes, and what it costs all processes together."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from bench import work
from bench.harness.accounts import CpuMeter
from bench.harness.goals import beside, ratio
from bench.harness.rows import Metric
from bench.pools.contenders import PPE
from bench.pools.rows.base import Case, row

P50 = Metric("p50_us", "p50", "us")
P99 = Metric("p99_us", "p99", "us")
CPU = Metric("cpu_us", "CPU of all processes", "us/call")
MAIN_P50 = Metric("main_p50_us", "p50, function of `__main__`", "us")
MAIN_CPU = Metric("main_cpu_us", "CPU, function of `__main__`", "us/call")


async def run(case: Case) -> None:
    """Await calls one after the other, with a new argument each."""
    await case.peer.open(2)
    echo_of_main = sys.modules["__main__"].__dict__["echo"]
    await _round(case, work.echo, 200)
    for _ in range(case.pick(5, 3)):
        times, cpu_us = await _round(case, work.echo, 1000)
        case.add(P50.key, times[len(times) // 2])
        case.add(P99.key, times[len(times) * 99 // 100])
        case.add(CPU.key, cpu_us)
    await _round(case, echo_of_main, 200)
    for _ in range(case.pick(5, 3)):
        times, cpu_us = await _round(case, echo_of_main, 1000)
        case.add(MAIN_P50.key, times[len(times) // 2])
        case.add(MAIN_CPU.key, cpu_us)


async def _round(case: Case, fn: Callable[[Any], Any], calls: int) -> tuple[list[float], float]:
    """Return the sorted times of the calls, and the CPU of one, in microseconds."""
    begin, clock = case.peer.begin, time.perf_counter_ns
    times = []
    cpu = CpuMeter()
    cpu.start()
    for number in range(calls):
        before = clock()
        answer = await begin(fn, number)
        times.append((clock() - before) / 1000)
        assert answer == number, f"asked {number}, was answered {answer}"
    cpu_us = cpu.stop() / calls / 1000
    times.sort()
    return times, cpu_us


GOALS = (
    ratio("one no-op at a time, p50", P50, 0.25, PPE),
    ratio("one no-op at a time, CPU of all processes", CPU, 1, PPE),
    ratio("one no-op of `__main__` at a time, p50", MAIN_P50, 0.25, PPE),
    ratio("one no-op of `__main__` at a time, CPU", MAIN_CPU, 1, PPE),
    beside("one no-op at a time, p50, `run_in_executor`", P50, entrance="offloop-executor"),
)

ROW = row(
    name="single-flight",
    title="One no-op at a time from asyncio",
    about="A warm pool of 2 workers; each call is awaited before the next; the argument changes.",
    metrics=(P50, P99, CPU, MAIN_P50, MAIN_CPU),
    run=run,
    goals=GOALS,
    quick_peers=("anyio",),
    entrances=("offloop", "offloop-executor", "offloop-adopted"),
)
