"""20,000 no-ops gathered at once: how many calls per second a pool carries."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable
from typing import Any

from bench import work
from bench.harness.accounts import CpuMeter
from bench.harness.goals import BEST_PEER, Ratio, ratio
from bench.harness.rows import Metric
from bench.pools.contenders import PPE
from bench.pools.rows.base import Case, row

CALLS = 20_000

RATE = Metric("rate", "calls", "1/s", higher_is_better=True)
CPU = Metric("cpu_us", "CPU of all processes", "us/call")
MAIN_RATE = Metric("main_rate", "calls, function of `__main__`", "1/s", higher_is_better=True)


async def run(case: Case) -> None:
    """Gather all calls, with a new argument each, and check every answer."""
    await case.peer.open(2)
    echo_of_main = sys.modules["__main__"].__dict__["echo"]
    await _gather(case, work.echo, 500)
    for _ in range(case.pick(3, 2)):
        cpu = CpuMeter()
        cpu.start()
        seconds = await _gather(case, work.echo, CALLS)
        case.add(CPU.key, cpu.stop() / CALLS / 1000)
        case.add(RATE.key, CALLS / seconds)
    await _gather(case, echo_of_main, 500)
    case.add(MAIN_RATE.key, CALLS / await _gather(case, echo_of_main, CALLS))


async def _gather(case: Case, fn: Callable[[Any], Any], calls: int) -> float:
    begin = case.peer.begin
    # A collection that happens to fall into one peer's turn would be counted as its cost.
    gc.collect()
    before = time.perf_counter()
    answers = await asyncio.gather(*[begin(fn, number) for number in range(calls)])
    seconds = time.perf_counter() - before
    assert answers == list(range(calls)), "the answers are not those of the calls"
    return seconds


GOALS = (
    ratio("20,000 no-ops gathered, `to_process`", RATE, 8, PPE, Ratio(3, BEST_PEER)),
    ratio("20,000 no-ops gathered, `run_in_executor`", RATE, 4, PPE, entrance="offloop-executor"),
)

ROW = row(
    name="gathered",
    title="20,000 no-ops gathered from asyncio",
    about="A warm pool of 2 workers; all calls are submitted at once; every answer is checked.",
    metrics=(RATE, CPU, MAIN_RATE),
    run=run,
    goals=GOALS,
    bound_s=150,
    entrances=("offloop", "offloop-executor", "offloop-adopted"),
)
